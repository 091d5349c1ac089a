"""One prefill for many prompts: what several begin with is read once, and its key-value cache branches."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.models.chat import ChatMessage
from pipeline.models.encoding import ChatEncoder, Rendered, Span, without_pixels
from pipeline.models.features import SAME, PictureFeatures, jpeg_of, on_device
from pipeline.models.prefill import Asked, LogProbabilities, SeparatePrefill, check_length
from pipeline.models.prefix_tree import Extent, PrefixTree, TreeLayout, Unit
from schemas.errors import Rejected

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, shape (1, heads, tokens, head size)."""

_ON_A_CPU = 1024
"""Tokens of a batch on a CPU, which is busy with few; all of a batch's are compared with each other, which costs."""

_TRIAL_BATCH = 24
"""Tokens of a batch in a trial: few, so that it needs several."""


class SharedPrefill:
    """All prompts of a call as one tree, prefilled once, a batch of its tokens at a time.

    Each token has the position that its own prompt gives it, and a mask keeps it from what is not before it there. The
    cache holds what later tokens attend to, and no more.
    """

    def __init__(
        self, model: Any, encoder: ChatEncoder, features: PictureFeatures | None, max_batch_tokens: int
    ) -> None:
        """features: None for a model that is given pixels. max_batch_tokens: halved where memory runs out."""
        self.tokens_read = 0
        self._model = model
        self._encoder = encoder
        self._features = features
        self._max_batch_tokens = max_batch_tokens if model.device.type != "cpu" else min(max_batch_tokens, _ON_A_CPU)
        self._extents: dict[tuple[int, int], Extent] = {}
        self._rope_index = getattr(model.model, "get_rope_index", None)

    def log_probabilities(self, asked: Sequence[Asked]) -> list[LogProbabilities]:
        """As `SeparatePrefill.log_probabilities`; one prompt that is rejected fails them all."""
        tree, pictures = PrefixTree(), dict[str, bytes]()
        wanted: dict[int, set[int]] = {}
        tails: list[list[list[tuple[int, int]]]] = []
        for each in asked:
            pictures |= {_name(jpeg): jpeg for jpeg in each.chat.pictures}
            tails.append([])
            for sequence, n_tail in self._sequences(each):
                path = tree.add(sequence[:-1])
                tail = [(entry, int(token)) for entry, token in zip(path[-n_tail:], sequence[-n_tail:], strict=True)]
                for entry, token in tail:
                    wanted.setdefault(entry, set()).add(token)
                tails[-1].append(tail)
        logs = self._read(tree, pictures, wanted)
        return [[[logs[place] for place in tail] for tail in of_choices] for of_choices in tails]

    def _units(self, tokens: Sequence[int], chat: Rendered) -> list[Unit]:
        """Tokens with the hash of a picture in place of each placeholder."""
        names = iter([_name(jpeg) for jpeg in chat.pictures])
        return [next(names) if token == self._encoder.placeholder_token else token for token in tokens]

    def _sequences(self, asked: Asked) -> Iterator[tuple[list[Unit], int]]:
        """For each choice the whole sequence, and how many tokens at its end are the choice's."""
        shared, endings = self._encoder.endings(asked.chat, asked.choices)
        in_pictures = sum(len(self._encoder.span(jpeg).tokens) - 1 for jpeg in asked.chat.pictures)
        check_length(self._model, max(map(len, endings)) + in_pictures - 1)
        for tokens in endings:
            yield self._units(tokens, asked.chat), len(tokens) - shared

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
            batch = self._batch(layout, at, tree.units, pictures)
            shown = [pictures[unit] for unit in tree.units[batch.start : batch.stop] if isinstance(unit, str)]
            asked = {entry: sorted(wanted[entry]) for entry in batch if entry in wanted}
            try:
                output = self._forward(layout, cached, cache, batch, shown, list(asked))
            except torch.cuda.OutOfMemoryError as error:
                self._shrink(layout, batch, error)
                continue
            logs = torch.log_softmax(output.logits[0].float(), dim=-1)
            for row, (entry, tokens) in zip(logs, asked.items(), strict=False):
                found |= {(entry, token): value for token, value in zip(tokens, row[tokens].tolist(), strict=True)}
            cached, cache = self._kept(layout, [*cached, *batch], output.past_key_values, batch.stop)
            at = batch.stop
        return found

    def _batch(self, layout: TreeLayout, at: int, units: Sequence[Unit], pictures: Mapping[str, bytes]) -> range:
        """The next entries to read; their pictures go into one tensor where the model is given pixels."""
        batch = layout.batch(at, self._max_batch_tokens)
        if self._features is not None:
            return batch
        shapes = None
        for entry in batch:
            unit = units[entry]
            if isinstance(unit, str):
                own = self._encoder.span(pictures[unit]).shapes
                if shapes not in (None, own):
                    return range(at, entry)
                shapes = own
        return batch

    def _forward(
        self,
        layout: TreeLayout,
        cached: Sequence[int],
        cache: Cache,
        batch: range,
        pictures: Sequence[bytes],
        wanted: Sequence[int],
    ) -> Any:
        """One forward pass over a batch; logits after each wanted entry."""
        from transformers import DynamicCache

        device = self._model.device
        places = layout.places(batch)
        ends = [places[entry].stop - 1 for entry in wanted] or [0]
        positions = torch.from_numpy(layout.positions(batch)).to(device)
        inputs = {
            "input_ids": torch.tensor([layout.tokens(batch)], device=device),
            "position_ids": positions if len(positions) == 1 else positions[:, None],
            "attention_mask": torch.from_numpy(layout.mask(cached, batch))[None, None].to(device),
            "logits_to_keep": torch.tensor(ends, device=device),
        }
        with torch.inference_mode():
            seen = self._seen(pictures)
            output = self._model(**inputs, **seen, past_key_values=DynamicCache(cache), use_cache=True)
        self.tokens_read += inputs["input_ids"].shape[1]
        return output

    def _seen(self, pictures: Sequence[bytes]) -> dict[str, Any]:
        if self._features is not None or not pictures:
            return self._features.inputs(pictures) if self._features else {}
        tensors = [self._encoder.picture(jpeg) for jpeg in pictures]
        return on_device(self._model, {name: torch.cat([t[name] for t in tensors]) for name in tensors[0]})

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


def tried_sharing(
    model: Any, encoder: ChatEncoder, features: PictureFeatures | None, max_batch_tokens: int
) -> SharedPrefill | None:
    """A shared prefill for a model that reads by it just what it reads by separate ones, which a trial shows.

    None for any other: one with windowed or linear attention, with pictures whose tokens look ahead, or whose processor
    writes pictures otherwise in company than alone.
    """
    if not _attends_to_all(model.config.get_text_config()):
        return None
    trial = SharedPrefill(model, encoder, features, _TRIAL_BATCH)
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
    return SharedPrefill(model, encoder, features, max_batch_tokens)


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


def _name(jpeg: bytes) -> str:
    return sha256(jpeg).hexdigest()
