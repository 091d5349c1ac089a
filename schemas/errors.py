"""The three kinds of error, and the form in which one is recorded.

Which kind an error is follows from its type or a status code, never from its text.
"""

from schemas.record import Record


class ZoomtrailError(Exception):
    """Base of the errors that Zoomtrail raises on purpose."""


class Transient(ZoomtrailError):
    """May pass by itself (a busy server, a lost connection): retried where it happened, a bounded number of times."""


class Rejected(ZoomtrailError):
    """This item's own fault (a broken video, a refused request): recorded as a failure row; the run goes on.

    `kind` is a short, stable word for statistics; the message names the item and the fault.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type["Rejected"], tuple[str, str]]:
        return type(self), (self.kind, self.message)


class Fatal(ZoomtrailError):
    """Nothing can go on (authentication, disk full): the run stops with one clear line and can be resumed."""


class UserError(Fatal):
    """The user's mistake (a bad config, a missing path): one line that says what to change; exit status 2."""


class Failure(Record):
    """Why an item has no result.

    stage: `source`, `caption`, `teach` or `replay`; kind: a short word (`video_truncated`, `content_filter`, …);
    attempts: how often the failing step was tried.
    """

    stage: str
    kind: str
    message: str
    attempts: int = 1
