"""`zoomtrail init`: a commented job file."""

from importlib.resources import files

from prompts.protocols import PROTOCOLS
from schemas.errors import UserError


def init(protocol: str | None, place: str | None) -> None:
    """Prints the example job of a protocol, or of a place where jobs run. Raises UserError."""
    if protocol and place:
        raise UserError(f"--for {place} prints a whole job; choose its protocol there")
    example = files("jobs") / "configs" / f"{place or protocol or 'videozoomer'}.yaml"
    if not example.is_file():
        raise UserError(f"--protocol: {protocol!r} is not one of {', '.join(p.name for p in PROTOCOLS)}")
    print(example.read_text(encoding="utf-8"), end="")
