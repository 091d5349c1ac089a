"""One prefill for many prompts: what several begin with is read once, and its key-value cache branches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.models.chat import ChatMessage
from pipeline.models.encoding import ChatEncoder, Rendered, Span, named, without_pixels
from pipeline.models.features import SAME, PictureFeatures, PicturePixels, jpeg_of
from pipeline.models.prefill import Asked, LogProbabilities, SeparatePrefill, check_length
from pipeline.models.prefix_tree import Extent, PrefixTree, TreeLayout, Unit
from schemas.errors import Rejected

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, shape (1, heads, tokens, head size)."""

_ON_A_CPU = 1024
"""Tokens of a batch on a CPU, which is busy with few; all of a batch's are compared with each other, which costs."""

_TRIAL_BATCH = 24
"""Tokens of a batch in a trial: few, so that it needs several."""


@dataclass(frozen=True)
class _Batch:
    """Entries to read at once. pictures: theirs, in order; wanted: the tokens to be told of after an entry."""

    entries: range
    pictures: list[bytes]
    wanted: dict[int, list[int]]


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
        self._extents: dict[tuple[int, int], Extent] = {}
        self._rope_index = getattr(model.model, "get_rope_index", None)

    def log_probabilities(self, asked: Sequence[Asked]) -> list[LogProbabilities]:
        """As `SeparatePrefill.log_probabilities`; one prompt that is rejected fails them all."""
        tree, pictures = PrefixTree(), dict[str, bytes]()
        wanted: dict[int, set[int]] = {}
        tails: list[list[list[tuple[int, int]]]] = []
        for each in asked:
            shown = named(each.chat.pictures)
            pictures |= shown
            tails.append([])
            for sequence, n_tail in self._sequences(each, [name for name, _ in shown]):
                path = tree.add(sequence[:-1])
                tail = [(entry, int(token)) for entry, token in zip(path[-n_tail:], sequence[-n_tail:], strict=True)]
                for entry, token in tail:
                    wanted.setdefault(entry, set()).add(token)
                tails[-1].append(tail)
        logs = self._read(tree, pictures, wanted)
        return [[[logs[place] for place in tail] for tail in of_choices] for of_choices in tails]

    def _sequences(self, asked: Asked, names: Sequence[str]) -> Iterator[tuple[list[Unit], int]]:
        """For each choice the whole sequence, with a picture's name in place of its placeholder, and how many tokens at
        its end are the choice's."""
        shared, endings = self._encoder.endings(asked.chat, asked.choices)
        in_pictures = sum(len(self._encoder.span(jpeg).tokens) - 1 for jpeg in asked.chat.pictures)
        check_length(self._model, max(map(len, endings)) + in_pictures - 1)
        for tokens in endings:
            left = iter(names)
            sequence = [next(left) if token == self._encoder.placeholder_token else token for token in tokens]
            yield sequence, len(tokens) - shared

    def _read(
        self, tree: PrefixTree, pictures: Mapping[str, bytes], wanted: Mapping[int, set[int]]
    ) -> dict[tuple[int, int], float]:
        """By entry and token, the log-probability of each wanted token after its entry."""
        layout = TreeLayout(tree, lambda unit: self._extent(unit, pictures))
        found: dict[tuple[int, int], float] = {}
        cache: Cache = []
        cached: list[int] = []
        at = 0
        while at < len(layout):
            batch = self._batch(layout, at, tree, pictures, wanted)
            try:
                seen = self._sight.inputs(batch.pictures)
                self._sight.prepare(self._batch(layout, batch.entries.stop, tree, pictures, wanted).pictures)
                output = self._forward(layout, cached, cache, batch, seen)
            except torch.cuda.OutOfMemoryError as error:
                self._shrink(layout, batch.entries, error)
                continue
            found |= _chosen(output.logits[0], batch.wanted)
            at = batch.entries.stop
            cached, cache = self._kept(layout, [*cached, *batch.entries], output.past_key_values, at)
        return found

    def _batch(
        self,
        layout: TreeLayout,
        first: int,
        tree: PrefixTree,
        pictures: Mapping[str, bytes],
        wanted: Mapping[int, set[int]],
    ) -> _Batch:
        """The entries from `first` on; pixels of several pictures go into one tensor only where they have one shape."""
        entries = layout.batch(first, self._max_batch_tokens)
        shown = [(entry, pictures[unit]) for entry in entries if isinstance(unit := tree.units[entry], str)]
        if isinstance(self._sight, PicturePixels):
            shapes = [self._encoder.span(jpeg).shapes for _, jpeg in shown]
            end = next((entry for (entry, _), own in zip(shown, shapes, strict=True) if own != shapes[0]), entries.stop)
            entries = range(first, end)
        own_wanted = {entry: sorted(wanted[entry]) for entry in entries if entry in wanted}
        return _Batch(entries, [jpeg for entry, jpeg in shown if entry in entries], own_wanted)

    def _forward(
        self, layout: TreeLayout, cached: Sequence[int], cache: Cache, batch: _Batch, seen: Mapping[str, Any]
    ) -> Any:
        """One forward pass over a batch; logits after each entry of which something is wanted."""
        from transformers import DynamicCache

        device = self._model.device
        places = layout.places(batch.entries)
        ends = [places[entry].stop - 1 for entry in batch.wanted] or [0]
        positions = torch.from_numpy(layout.positions(batch.entries)).to(device)
        inputs = {
            "input_ids": torch.tensor([layout.tokens(batch.entries)], device=device),
            "position_ids": positions if len(positions) == 1 else positions[:, None],
            "attention_mask": torch.from_numpy(layout.mask(cached, batch.entries))[None, None].to(device),
            "logits_to_keep": torch.tensor(ends, device=device),
        }
        with torch.inference_mode():
            output = self._model(**inputs, **seen, past_key_values=DynamicCache(cache), use_cache=True)
        self.tokens_read += inputs["input_ids"].shape[1]
        return output

    def _kept(
        self, layout: TreeLayout, entries: Sequence[int], cache: Any, still_to_come: int
    ) -> tuple[list[int], Cache]:
        """Of entries in the cache those that entries still to come attend to."""
        kept = [entry for entry in entries if layout.last_uses[entry] >= still_to_come]
        places = layout.places(entries)
        columns = np.concatenate([np.arange(places[e].start, places[e].stop) for e in kept] or [np.arange(0)])
        index = torch.from_numpy(columns).to(self._model.device)
        return kept, [(keys.index_select(2, index), values.index_select(2, index)) for keys, values, *_ in cache]

    def _shrink(self, layout: TreeLayout, batch: range, error: torch.cuda.OutOfMemoryError) -> None:
        if len(batch) == 1:
            raise Rejected("out_of_memory", f"a prompt of {layout.first[batch.start]} tokens: {error}") from error
        torch.cuda.empty_cache()
        self._max_batch_tokens = len(layout.tokens(batch)) // 2

    def _extent(self, unit: Unit, pictures: Mapping[str, bytes]) -> Extent:
        if isinstance(unit, int):
            return Extent((unit,), np.zeros((3 if self._rope_index else 1, 1), dtype=np.int64), 1)
        span = self._encoder.span(pictures[unit])
        if span.size not in self._extents:
            self._extents[span.size] = self._extent_of(span)
        return self._extents[span.size]

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
    writes pictures otherwise in company than alone.
    """
    if not _attends_to_all(model.config.get_text_config()):
        return None
    trial = SharedPrefill(model, encoder, sight, _TRIAL_BATCH)
    wide, high = (jpeg_of(Image.linear_gradient("L").resize(size)) for size in ((160, 96), (96, 160)))
    chats = [(wide, "and", high, "?"), (wide, "and", wide, high, "!"), ("or",)]
    try:
        asked = [Asked(encoder.rendered([ChatMessage("user", parts)]), ("yes", "no, nothing")) for parts in chats]
        if not all(_composes(encoder, each.chat) for each in asked):
            return None
        shared, separate = (p.log_probabilities(asked) for p in (trial, SeparatePrefill(model, encoder)))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, Rejected):
        return None
    close = 1e-3 if model.dtype == torch.float32 else SAME
    pairs = zip(chain(*chain(*shared)), chain(*chain(*separate)), strict=True)
    if any(abs(one - other) > close * (1 + abs(other)) for one, other in pairs):
        return None
    return SharedPrefill(model, encoder, sight, max_batch_tokens)


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
