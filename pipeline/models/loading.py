"""From a path to a loaded transformers model: found, complete, on its device, and known by its content."""

import hashlib
import importlib
import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from schemas.errors import UserError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

_HASHED = (".json", ".jinja", ".safetensors", ".model", ".txt", ".bin")
_EDGE_BYTES = 1 << 20


def torch_device(name: str) -> torch.device:
    """`auto`: cuda where there is one, else the CPU. Raises UserError for a name that is no device here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name!r} is none that torch knows: use auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: torch finds no GPU here; use auto or cpu")
    return device


def torch_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on a GPU, float32 on the CPU. Raises UserError for a name not in DTYPES."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is unknown: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def load(path: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model, in eval mode on its device, and its processor. No code out of the checkpoint is ever run.

    Raises UserError where a file, a weight or a package is missing, or the model is no chat model that reads pictures.
    """
    folder = Path(path)
    if not folder.is_dir() and (folder.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1):
        raise UserError(f"model {path}: there is no such folder")
    try:
        transformers = _transformers()
        transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)  # fails soonest where there is nothing
        processor = transformers.AutoProcessor.from_pretrained(path, trust_remote_code=False)
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            path, dtype=dtype, trust_remote_code=False, output_loading_info=True
        )
        model = model.to(device).eval()
    except ImportError as error:
        raise UserError(
            f"model {path}: its processor lacks a package ({first_line(error)}): install zoomtrail[qwen] or "
            f"zoomtrail[smolvlm]; a torchvision that does not fit torch {torch.__version__} must go"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"model {path} cannot be loaded; is the folder complete? ({type(error).__name__}: {first_line(error)})"
        ) from error
    _check_use(path, model, processor, report["missing_keys"])
    _forget_sampling(model, processor.tokenizer)
    return model, processor


def first_line(error: Exception) -> str:
    """An error's first line, 200 characters of it at most."""
    return next(iter(str(error).strip().splitlines()), "")[:200]


def weights_hash(path: str, model: Any) -> str:
    """Names a model's content: the hub's commit, or a SHA-256 over every file's name, size, first and last MiB."""
    folder = Path(path)
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None) or path)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _HASHED:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}:".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_EDGE_BYTES))
                stream.seek(max(0, size - _EDGE_BYTES))
                digest.update(stream.read(_EDGE_BYTES))
    return digest.hexdigest()


def _forget_sampling(model: Any, tokenizer: Any) -> None:
    """Of the checkpoint's generation settings only its end tokens stay (a list): sampling is for the job to say."""
    end = model.generation_config.eos_token_id
    end = tokenizer.eos_token_id if end is None else end
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    end_tokens = end if isinstance(end, list) else [end]
    model.generation_config = _transformers().GenerationConfig(eos_token_id=end_tokens, pad_token_id=pad)


def _transformers() -> Any:
    """The package, untyped (its own types are partial), without progress bars."""
    transformers: Any = importlib.import_module("transformers")
    transformers.logging.disable_progress_bar()
    return transformers


def _check_use(path: str, model: Any, processor: Any, missing_weights: Collection[str]) -> None:
    if missing_weights:
        raise UserError(f"model {path} lacks {len(missing_weights)} weights; is the folder complete?")
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise UserError(f"model {path} reads no pictures: choose a vision-language model")
    if not processor.chat_template:
        raise UserError(f"model {path} has no chat template: choose an instruction-tuned model")
    takes_positions = "logits_to_keep" in inspect.signature(model.forward).parameters
    if model.config.is_encoder_decoder or not takes_positions:
        raise UserError(f"model {path} ({model.config.model_type}) is no decoder whose choices can be scored")
