"""`zoomtrail init`: a commented job file."""

from importlib.resources import files

from prompts.protocols import PROTOCOLS
from schemas.errors import UserError


def init(protocol: str) -> None:
    """Prints the example job of a protocol. Raises UserError for an unknown one."""
    example = files("jobs") / "configs" / f"{protocol}.yaml"
    if not example.is_file():
        raise UserError(f"--protocol: {protocol!r} is not one of {', '.join(p.name for p in PROTOCOLS)}")
    print(example.read_text(encoding="utf-8"), end="")
