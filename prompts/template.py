"""Long texts, one jinja2 file each under `prompts/templates/`."""

from collections.abc import Mapping
from functools import cache, lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    """Plain text for models: nothing is escaped, and a missing value is an error instead of a gap."""
    return Environment(loader=PackageLoader("prompts"), undefined=StrictUndefined, autoescape=False)


def fill(name: str, values: Mapping[str, object]) -> str:
    """The text of `templates/NAME.jinja`, without the file's last newline.

    Raises jinja2.UndefinedError where a value is missing, jinja2.TemplateNotFound where the file is.
    """
    return _environment().get_template(f"{name}.jinja").render(values)


@lru_cache(maxsize=64)
def constant(name: str, *values: tuple[str, object]) -> str:
    """`fill` for a text that many dialogues hold alike: it is rendered once. values: name and value of each."""
    return fill(name, dict(values))
