"""What a list of trajectories shows, as an address says it: every filter state has a URL of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

KEPT, DROPPED = "kept", "dropped"
DEFAULT = "default"
"""The preset whose reasons are told where none is named."""

_LONGEST = 4_000
"""Characters of one value that are looked at: a condition or a text to search is never longer."""


@dataclass(frozen=True)
class ListState:
    """The filters, the order and the page of a list; "" leaves a filter out.

    preset: whose reasons are told. outcome: `kept`, `dropped`, or a loss's reason; correct: `yes`, `no` or `unknown`.
    where: an SQL condition. search: a text in question, answers or thoughts. question, video: ids.
    sort: a column, with a `-` before it the largest first. page: from 1.
    """

    preset: str = DEFAULT
    status: str = ""
    protocol: str = ""
    outcome: str = ""
    correct: str = ""
    where: str = ""
    search: str = ""
    question: str = ""
    video: str = ""
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "ListState":
        """The state that a query string asks for; what it says beyond that is ignored."""
        known = {field.name: query[field.name].strip()[:_LONGEST] for field in fields(cls) if query.get(field.name)}
        page = known.pop("page", "1")
        return cls(**known, page=max(1, int(page)) if page.isascii() and page.isdecimal() and len(page) < 9 else 1)

    def but(self, **changes: str | int) -> "ListState":
        """This state with changes; any but another page begins at the first page again."""
        return replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]

    @property
    def query(self) -> str:
        """As a query string, without what is as it is by default."""
        default = ListState()
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return urlencode({name: value for name, value in said.items() if value != getattr(default, name)})

    @property
    def address(self) -> str:
        """Of the list."""
        return f"/?{self.query}" if self.query else "/"

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return self.but(preset="", sort="") != ListState(preset="")
