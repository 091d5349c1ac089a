"""What a count of tokens says of prompts that begin alike."""

from collections.abc import Mapping, Sequence

from pipeline.models.encoding import ChatEncoder
from pipeline.models.prefill import Asked
from pipeline.models.prefix_tree import PrefixTree, Unit
from pipeline.models.shown import Shown


def possible(encoder: ChatEncoder, asked: Sequence[Asked]) -> float:
    """How many times fewer tokens the count allows: those of all prompts, by those of the tree that they make."""
    tree, pictures, total = PrefixTree(), dict[str, Shown](), 0
    for each in asked:
        pictures |= {picture.name: picture for picture in each.chat.pictures}
        for before in {ending.tokens[:-1] for ending in each.endings}:
            left = iter(each.chat.pictures)
            path = tree.add(next(left).name if token == encoder.placeholder_token else token for token in before)
            total += sum(_n_tokens(encoder, tree.units[entry], pictures) for entry in path)
    return total / sum(_n_tokens(encoder, unit, pictures) for unit in tree.units)


def _n_tokens(encoder: ChatEncoder, unit: Unit, pictures: Mapping[str, Shown]) -> int:
    return len(encoder.span(pictures[unit]).tokens) if isinstance(unit, str) else 1
