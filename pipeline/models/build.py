"""From the configuration of a role to the model that plays it."""

from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatModel, Scorer
from pipeline.models.endpoint import EndpointModel
from schemas.config import Endpoint, Local


def chat_model(config: Endpoint | Local, role: str, calls: CallStore) -> ChatModel:
    """The captioner or teacher of a config. Raises UserError where a local model cannot be loaded."""
    if isinstance(config, Endpoint):
        return EndpointModel(config, role, calls)
    from pipeline.models.local import LocalModel

    return LocalModel(
        config.path,
        device=config.device,
        dtype=config.dtype,
        max_batch_tokens=config.max_batch_tokens,
        temperature=config.temperature,
        max_new_tokens=config.max_tokens,
    )


def scorer(config: Local | None) -> Scorer | None:
    """The verifier of a config, None where it names none."""
    if config is None:
        return None
    from pipeline.models.local import LocalModel

    return LocalModel(
        config.path, device=config.device, dtype=config.dtype, max_batch_tokens=config.max_batch_tokens
    )
