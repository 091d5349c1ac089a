"""What a run makes of an error that a server answered with: by its status, or by what the server says of it."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from pipeline.models.refusals import Refusal, seconds_in
from pipeline.models.replies import Response
from pipeline.models.wire import Unanswered
from schemas.errors import Fatal, Rejected, UserError


def fault_of(error: openai.APIStatusError, refusal: Refusal, role: str) -> Exception:
    """The kind of error that a status code means, or the server's own short name of the fault where it says more."""
    status = error.status_code
    text = f"HTTP {status} from the {role} endpoint"
    if refusal.withheld:
        return Rejected("content_filter", f"{text}: {refusal.message}")
    if status == 402 or refusal.no_credit:
        return Fatal(f"{text}: {refusal.message or 'no credit'}; add credit, then run the same command again to go on")
    if status in (401, 403) or refusal.no_key:
        said = f" ({refusal.message})" if refusal.no_key and refusal.message else ""
        return Fatal(f"{text}: the key was refused{said}; check {role}.api_key_env and the variable that it names")
    if status == 404:
        return UserError(f"{text}: no such model or path; check {role}.model and {role}.base_url")
    if status in (408, 409, 425, 429) or status >= 500:
        wait = max(_retry_after(error), refusal.after_s)
        return Unanswered(f"HTTP {status}", text, wait, for_all=status == 429, came=_object_in(error))
    return Rejected("bad_request", f"{text}: {refusal.message}")


def _retry_after(error: openai.APIStatusError) -> float:
    """Seconds to wait by the headers: in milliseconds (OpenAI), in seconds, or until a date; 0 where none says."""
    headers = error.response.headers
    if in_ms := seconds_in(headers.get("retry-after-ms"), 0.001):
        return in_ms
    told = headers.get("retry-after", "")
    if in_s := seconds_in(told):
        return in_s
    try:
        until = parsedate_to_datetime(told)
    except ValueError:
        return 0.0
    now = datetime.now(UTC if until.tzinfo else None)
    return seconds_in((until - now).total_seconds())


def _object_in(error: openai.APIStatusError) -> Response:
    try:
        came = json.loads(error.response.content)
    except (ValueError, RecursionError):
        return {}
    return came if isinstance(came, dict) else {}
