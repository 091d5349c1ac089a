"""Texts and pictures in one space, by a model of CLIP's or SigLIP's class that transformers runs in this process."""

import hashlib
import importlib
import io
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError

from pipeline.models.loading import torch_device, torch_dtype
from schemas.errors import Rejected, UserError

Vectors = npt.NDArray[np.float32]

_BATCH = 32
"""Pictures at once."""

_KEPT = 8192
"""Pictures whose vectors are kept: attempts at a video look at the same frames."""


class LocalEmbedder:
    """An `Embedder` with one model in memory. May be called from several threads."""

    def __init__(self, path: str, device: str = "auto", dtype: str = "auto") -> None:
        """path: a folder as save_pretrained writes it, or a hub name. device, dtype: see `pipeline.models.loading`.

        Raises UserError where the model cannot be loaded or does not embed texts and pictures.
        """
        self.name = Path(path).resolve().name if Path(path).is_dir() else path
        self._device = torch_device(device)
        self._model, self._processor = _load(path, self._device, torch_dtype(dtype, self._device))
        self._length = self._model.config.text_config.max_position_embeddings
        self._known: dict[str, Vectors] = {}
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], jpegs: Sequence[bytes]) -> tuple[Vectors, Vectors]:
        """See `Embedder`. A text is cut at the model's longest."""
        with self._lock, torch.inference_mode():
            return np.concatenate([self._text(text) for text in texts]), self._pictures(jpegs)

    def _text(self, text: str) -> Vectors:
        """Padded to the model's full length, as SigLIP was trained; CLIP looks past the padding."""
        tokens = self._processor.tokenizer(
            [text], padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
        )
        return _unit(self._model.get_text_features(**tokens.to(self._device)))

    def _pictures(self, jpegs: Sequence[bytes]) -> Vectors:
        keys = [hashlib.sha256(jpeg).hexdigest() for jpeg in jpegs]
        new = {key: jpeg for key, jpeg in zip(keys, jpegs, strict=True) if key not in self._known}
        found = {key: self._known[key] for key in keys if key in self._known}
        for batch in _batches(list(new)):
            images = [_decoded(new[key]) for key in batch]
            pixels = self._processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
            vectors = _unit(self._model.get_image_features(pixel_values=pixels.to(self._device, self._model.dtype)))
            found |= dict(zip(batch, vectors[:, None], strict=True))
        self._known |= found
        for key in list(islice(self._known, max(0, len(self._known) - _KEPT))):
            del self._known[key]
        return np.concatenate([found[key] for key in keys])


def _load(path: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    transformers: Any = importlib.import_module("transformers")
    try:
        processor = transformers.AutoProcessor.from_pretrained(path, trust_remote_code=False)
        model = transformers.AutoModel.from_pretrained(path, dtype=dtype, trust_remote_code=False)
    except (ImportError, OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
        raise UserError(f"embedder {path} cannot be loaded; is the folder complete? ({reason})") from error
    if not hasattr(model, "get_text_features") or not hasattr(model, "get_image_features"):
        raise UserError(f"embedder {path} ({model.config.model_type}) does not embed both texts and pictures")
    return model.to(device).eval(), processor


def _unit(features: Any) -> Vectors:
    """Features as unit vectors, (n, d), on the CPU; newer transformers give them inside an output."""
    tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    normed = torch.nn.functional.normalize(tensor.float(), dim=-1)
    return np.asarray(normed.cpu().numpy(), np.float32)


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH))


def _decoded(jpeg: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise Rejected("bad_picture", f"a picture of {len(jpeg)} bytes cannot be decoded: {error}") from error
