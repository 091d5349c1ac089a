"""One prefill for many prompts: what several begin with is read once, and its key-value cache branches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.models.chat import ChatMessage, ChoiceQuestion
from pipeline.models.encoding import ChatEncoder, Rendered, Span, without_pixels
from pipeline.models.features import PictureFeatures, PicturePixels, jpeg_of
from pipeline.models.head import head_in_float32
from pipeline.models.memory import Full, within_memory
from pipeline.models.prefill import Asked, LogProbabilities, SeparatePrefill, asked_of, check_length
from pipeline.models.prefix_tree import Extent, PrefixTree, TreeLayout, Unit
from pipeline.models.shown import Shown
from schemas.errors import Rejected

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, shape (1, heads, tokens, head size)."""

_ON_A_CPU = 1024
"""Tokens of a batch on a CPU, which is busy with few; all of a batch's are compared with each other, which costs."""

_TRIAL_BATCH = 24
"""Tokens of a batch in a trial: few, so that it needs several."""

_CLOSE_IN_HALF = 0.03
"""Relative difference of log-probabilities in a trial in bfloat16: thrice what its rounding makes of tiny models."""


Found = dict[tuple[int, int], float]
"""By entry and token, the log-probability of the token after its entry."""


@dataclass(frozen=True)
class _Plan:
    """What is to be read. pictures: by their names, which stand in the tree; wanted: tokens to be told of, by entry."""

    tree: PrefixTree
    layout: TreeLayout
    pictures: Mapping[str, Shown]
    wanted: Mapping[int, set[int]]


@dataclass(frozen=True)
class _Batch:
    """Entries to read at once. pictures: theirs, in order; wanted: the tokens to be told of after an entry."""

    entries: range
    pictures: list[Shown]
    wanted: dict[int, list[int]]


@dataclass(frozen=True)
class _Kept:
    """What is left of batches that have been read, for those to come. entries: of which the cache is."""

    entries: list[int]
    cache: Cache


class SharedPrefill:
    """All prompts of a call as one tree, prefilled once, a batch of its tokens at a time.

    Each token has the position that its own prompt gives it, and a mask keeps it from what is not before it there. The
    cache holds what later tokens attend to, and no more. Pictures of the next batch are prepared meanwhile.
    """

    def __init__(
        self, model: Any, encoder: ChatEncoder, sight: PictureFeatures | PicturePixels, max_batch_tokens: int
    ) -> None:
        """sight: how the model takes pictures. max_batch_tokens: halved where memory runs out."""
        self.tokens_read = 0
        self._model = model
        self._encoder = encoder
        self._sight = sight
        self._max_batch_tokens = max_batch_tokens if model.device.type != "cpu" else min(max_batch_tokens, _ON_A_CPU)
        self._extents: dict[tuple[tuple[int, int], bool], Extent] = {}
        self._rope_index = getattr(model.model, "get_rope_index", None)

    def log_probabilities(self, asked: Sequence[Asked]) -> list[LogProbabilities]:
        """As `SeparatePrefill.log_probabilities`; one prompt that is rejected fails them all."""
        tree, pictures = PrefixTree(), dict[str, Shown]()
        wanted: dict[int, set[int]] = {}
        tails: list[list[list[tuple[int, int]]]] = []
        for each in asked:
            pictures |= {picture.name: picture for picture in each.chat.pictures}
            tails.append([])
            for sequence in self._sequences(each):
                n_tail = len(sequence) - each.shared
                path = tree.add(sequence[:-1])
                tail = [(entry, int(token)) for entry, token in zip(path[-n_tail:], sequence[-n_tail:], strict=True)]
                for entry, token in tail:
                    wanted.setdefault(entry, set()).add(token)
                tails[-1].append(tail)
        layout = TreeLayout(tree, lambda unit: self._extent(unit, pictures))
        found = self._read(_Plan(tree, layout, pictures, wanted))
        return [[[found[place] for place in tail] for tail in of_choices] for of_choices in tails]

    def _sequences(self, asked: Asked) -> Iterator[list[Unit]]:
        """For each choice the whole sequence, with a picture's name in place of its placeholder."""
        in_pictures = sum(len(self._encoder.span(picture).tokens) - 1 for picture in asked.chat.pictures)
        check_length(self._model, max(len(ending.tokens) for ending in asked.endings) + in_pictures - 1)
        for ending in asked.endings:
            left = iter(asked.chat.pictures)
            placeholder = self._encoder.placeholder_token
            yield [next(left).name if token == placeholder else token for token in ending.tokens]

    def _read(self, plan: _Plan) -> Found:
        found: Found = {}
        kept = _Kept([], [])
        at = 0
        while at < len(plan.layout):
            batch = self._batch(plan, at)
            step = within_memory(partial(self._step, plan, kept, batch))
            if isinstance(step, Full):
                self._shrink(plan.layout, batch.entries, step)
                continue
            kept, at = step[1], batch.entries.stop
            found |= step[0]
        return found

    def _step(self, plan: _Plan, kept: _Kept, batch: _Batch) -> tuple[Found, _Kept]:
        """A batch is read: what is told of it, and what is left for those to come."""
        seen = self._sight.inputs(batch.pictures)
        self._sight.prepare(self._batch(plan, batch.entries.stop).pictures)
        output = self._forward(plan.layout, kept, batch, seen)
        entries = [*kept.entries, *batch.entries]
        left = self._left(plan.layout, entries, output.past_key_values, batch.entries.stop)
        return _chosen(output.logits[0], batch.wanted), left

    def _batch(self, plan: _Plan, first: int) -> _Batch:
        """The entries from `first` on; pixels of several pictures go into one tensor only where they have one shape."""
        entries = plan.layout.batch(first, self._max_batch_tokens)
        units = plan.tree.units
        shown = [(entry, plan.pictures[unit]) for entry in entries if isinstance(unit := units[entry], str)]
        if isinstance(self._sight, PicturePixels):
            shapes = [self._encoder.span(picture).shapes for _, picture in shown]
            end = next((entry for (entry, _), own in zip(shown, shapes, strict=True) if own != shapes[0]), entries.stop)
            entries = range(first, end)
        wanted = {entry: sorted(plan.wanted[entry]) for entry in entries if entry in plan.wanted}
        return _Batch(entries, [picture for entry, picture in shown if entry in entries], wanted)

    def _forward(self, layout: TreeLayout, kept: _Kept, batch: _Batch, seen: Mapping[str, Any]) -> Any:
        """One forward pass over a batch; logits after each entry of which something is wanted."""
        from transformers import DynamicCache

        device = self._model.device
        places = layout.places(batch.entries)
        ends = [places[entry].stop - 1 for entry in batch.wanted] or [0]
        positions = torch.from_numpy(layout.positions(batch.entries)).to(device)
        inputs = {
            "input_ids": torch.tensor([layout.tokens(batch.entries)], device=device),
            "position_ids": positions if len(positions) == 1 else positions[:, None],
            "attention_mask": self._mask(layout, kept.entries, batch.entries),
            "logits_to_keep": torch.tensor(ends, device=device),
        }
        with torch.inference_mode(), head_in_float32(self._model):
            output = self._model(**inputs, **seen, past_key_values=DynamicCache(kept.cache), use_cache=True)
        self.tokens_read += len(layout.tokens(batch.entries))
        return output

    def _mask(self, layout: TreeLayout, cached: Sequence[int], new: range) -> torch.Tensor | None:
        """Which new token attends to which, (1, 1, new tokens, cached and new tokens); None where to all before it."""
        entries = [*cached, *new]
        if layout.unbranched(entries):
            return None
        enter, leave = (torch.from_numpy(each).to(self._model.device) for each in layout.reaches(entries))
        own = enter[-len(layout.tokens(new)) :, None]
        return ((enter <= own) & (own < leave))[None, None]

    def _left(self, layout: TreeLayout, entries: Sequence[int], cache: Any, still_to_come: int) -> _Kept:
        """Of entries in the cache those that entries still to come attend to."""
        kept = [entry for entry in entries if layout.last_uses[entry] >= still_to_come]
        layers = [(keys, values) for keys, values, *_ in cache]
        if len(kept) == len(entries):
            return _Kept(kept, layers)
        places = layout.places(entries)
        columns = np.concatenate([np.arange(places[e].start, places[e].stop) for e in kept] or [np.arange(0)])
        index = torch.from_numpy(columns).to(self._model.device)
        return _Kept(kept, [(keys.index_select(2, index), values.index_select(2, index)) for keys, values in layers])

    def _shrink(self, layout: TreeLayout, batch: range, full: Full) -> None:
        if len(batch) == 1:
            raise Rejected("out_of_memory", f"a prompt of {layout.first[batch.start]} tokens: {full.message}")
        self._max_batch_tokens = len(layout.tokens(batch)) // 2

    def _extent(self, unit: Unit, pictures: Mapping[str, Shown]) -> Extent:
        if isinstance(unit, int):
            return Extent((unit,), np.zeros((3 if self._rope_index else 1, 1), dtype=np.int64), 1)
        key = pictures[unit].size, pictures[unit].alone
        if key not in self._extents:
            self._extents[key] = self._extent_of(self._encoder.span(pictures[unit]))
        return self._extents[key]

    def _extent_of(self, span: Span) -> Extent:
        n = len(span.tokens)
        if self._rope_index is None:
            return Extent(span.tokens, np.arange(n, dtype=np.int64)[None], n)
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw")
        positions, _ = self._rope_index(**{name: span.tensors[name] for name in names})
        offsets = positions[:, 0].cpu().numpy()
        return Extent(span.tokens, offsets, int(offsets.max()) + 1)


def _chosen(logits: torch.Tensor, wanted: Mapping[int, Sequence[int]]) -> dict[tuple[int, int], float]:
    """The log-probability of each wanted token. logits: a row for each entry of `wanted`, in order."""
    logs = torch.log_softmax(logits.float(), dim=-1)
    return {
        (entry, token): value
        for row, (entry, tokens) in zip(logs, wanted.items(), strict=False)
        for token, value in zip(tokens, row[tokens].tolist(), strict=True)
    }


def tried_sharing(
    model: Any, encoder: ChatEncoder, sight: PictureFeatures | PicturePixels, max_batch_tokens: int
) -> SharedPrefill | None:
    """A shared prefill for a model that reads by it just what it reads by separate ones, which a trial shows.

    None for any other: one with windowed or linear attention, with pictures whose tokens look ahead, or whose processor
    writes pictures in ways of its own. Raises OutOfMemoryError or Rejected where there is no room for the trial.
    """
    if not _attends_to_all(model.config.get_text_config()):
        return None
    trial = SharedPrefill(model, encoder, sight, _TRIAL_BATCH)
    try:
        asked = asked_of(encoder, _trial_probes())
        if not all(_composes(encoder, each.chat) for each in asked):
            return None
        shared, separate = (p.log_probabilities(asked) for p in (trial, SeparatePrefill(model, encoder)))
    except torch.cuda.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, Rejected) as error:
        if isinstance(error, Rejected) and error.kind == "out_of_memory":
            raise
        return None
    close = 1e-3 if model.dtype == torch.float32 else _CLOSE_IN_HALF
    pairs = zip(chain(*chain(*shared)), chain(*chain(*separate)), strict=True)
    if any(abs(one - other) > close * (1 + abs(other)) for one, other in pairs):
        return None
    return SharedPrefill(model, encoder, sight, max_batch_tokens)


def _trial_probes() -> list[ChoiceQuestion]:
    """Prompts that begin alike, with several pictures, one, and none."""
    wide, high = (jpeg_of(Image.linear_gradient("L").resize(size)) for size in ((160, 96), (96, 160)))
    chats = [(wide, "and", high, "?"), (wide, "and", wide, high, "!"), (wide, "and"), ("or",)]
    return [ChoiceQuestion((ChatMessage("user", parts),), ("yes", "no, nothing")) for parts in chats]


def _composes(encoder: ChatEncoder, chat: Rendered) -> bool:
    """Whether a chat that is put together has the tokens that the model's own processor gives it."""
    own = without_pixels(encoder.processed(chat.text, chat.pictures).tensors)
    composed = encoder.composed(chat).tensors
    return own.keys() == composed.keys() and all(torch.equal(own[name], composed[name]) for name in own)


def _attends_to_all(config: Any) -> bool:
    layers = getattr(config, "layer_types", None)
    if layers is None:
        return getattr(config, "sliding_window", None) is None
    return set(layers) == {"full_attention"}
