"""Pictures as a model takes them: what its vision tower makes of them, kept for the next time, or their pixels."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from pipeline.models.chat import ChatMessage
from pipeline.models.encoding import ChatEncoder, Tensors, picture_shapes, without_pixels
from pipeline.models.pictures_ahead import PicturesAhead
from pipeline.models.scoring import token_batches
from pipeline.models.shown import Shown
from schemas.errors import Rejected

_MOST_BYTES = 1 << 28
_AT_ONCE = 32
"""Pictures that are encoded in one pass."""

SAME = 0.05
"""Relative difference of logits in a trial: wide enough for bfloat16, too small for features that lack something."""


class PictureFeatures:
    """The features of pictures, by their names. Beyond 256 MiB those go that were unused longest."""

    def __init__(self, model: Any, ahead: PicturesAhead) -> None:
        """ahead: prepares pictures for the model."""
        self._model = model
        self._ahead = ahead
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def prepare(self, pictures: Sequence[Shown]) -> None:
        """Has those pictures decoded and resized that `inputs` will be asked for next."""
        self._ahead.prepare(self._missing(pictures))

    def inputs(self, pictures: Sequence[Shown]) -> dict[str, Any]:
        """What `forward` and `generate` take in place of pixels, for the pictures of a batch in their order."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        if not pictures:
            return {}
        self._encode(self._missing(pictures))
        names = [picture.name for picture in pictures]
        features: Any = [self._kept[name] for name in names]
        for name in names:
            self._kept.move_to_end(name)
        while sum(each.nbytes for each in self._kept.values()) > _MOST_BYTES:
            self._kept.popitem(last=False)
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=features)}}

    def _missing(self, pictures: Sequence[Shown]) -> dict[str, Shown]:
        return {picture.name: picture for picture in pictures if picture.name not in self._kept}

    def _encode(self, missing: dict[str, Shown]) -> None:
        encoded = zip(missing, self._ahead.tensors(missing), strict=True)
        for batch in token_batches(encoded, lambda _: 1, lambda one: picture_shapes(one[1]), lambda: _AT_ONCE):
            tensors = {name: torch.cat([each[name] for _, each in batch]) for name in batch[0][1]}
            with torch.inference_mode():
                output = self._model.get_image_features(**on_device(self._model, tensors), return_dict=True)
            self._kept |= {key: each.clone() for (key, _), each in zip(batch, output.pooler_output, strict=True)}


class PicturePixels:
    """The pixels of pictures, for a model that takes nothing else."""

    def __init__(self, model: Any, ahead: PicturesAhead) -> None:
        """ahead: prepares pictures for the model."""
        self._model = model
        self._ahead = ahead

    def prepare(self, pictures: Sequence[Shown]) -> None:
        """Has those pictures decoded and resized that `inputs` will be asked for next."""
        self._ahead.prepare({picture.name: picture for picture in pictures})

    def inputs(self, pictures: Sequence[Shown]) -> dict[str, Any]:
        """What `forward` takes for the pictures of a batch in their order, which have equal `picture_shapes`."""
        if not pictures:
            return {}
        known = {picture.name: picture for picture in pictures}
        tensors = dict(zip(known, self._ahead.tensors(known), strict=True))
        each = [tensors[picture.name] for picture in pictures]
        return on_device(self._model, {name: torch.cat([t[name] for t in each]) for name in each[0]})


def tried_features(model: Any, encoder: ChatEncoder, ahead: PicturesAhead) -> PictureFeatures | None:
    """Features for a model that reads them just as it reads pixels, which a trial shows; None for any other.

    Some take no features, and some need more than one tensor a picture. Raises OutOfMemoryError where there is no room
    for the trial, which says nothing of the model.
    """
    features = PictureFeatures(model, ahead)
    first, second = jpeg_of(Image.linear_gradient("L")), jpeg_of(Image.radial_gradient("L"))
    try:
        same = all(_same(model, encoder, features, parts) for parts in ((first, "and", second, "?"), (first, "?")))
    except torch.cuda.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError, Rejected):
        return None
    return features if same else None


def _same(model: Any, encoder: ChatEncoder, features: PictureFeatures, parts: tuple[str | bytes, ...]) -> bool:
    prompt = encoder.prompt([ChatMessage("user", parts)])
    with torch.inference_mode():
        by_pixels = model(**on_device(model, prompt.tensors), use_cache=False).logits
        inputs = on_device(model, without_pixels(prompt.tensors)) | features.inputs(prompt.pictures)
        by_features = model(**inputs, use_cache=False).logits
    return bool((by_features - by_pixels).norm() <= SAME * by_pixels.norm())


def on_device(model: Any, tensors: Tensors) -> dict[str, Any]:
    """Tensors where the model is, numbers in its precision."""
    return {k: v.to(model.device, model.dtype if v.is_floating_point() else None) for k, v in tensors.items()}


def jpeg_of(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()
