"""Remote file systems: how one is opened, which of its errors pass by themselves, and how long they are waited out."""

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from schemas.errors import UserError

T = TypeVar("T")

PATIENCE_S = 90.0
"""Seconds for which one request is tried again: a store that is away for longer stops the run, which resumes."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        # A reader that fetches in parts asks for the size first, and lists the folder of what is not there.
        "max_concurrency": 1,
        "config_kwargs": {
            "max_pool_connections": 64,
            "connect_timeout": 10,
            "read_timeout": 30,
            "retries": {"mode": "standard", "total_max_attempts": 3},
        },
    }
}
_S3_TRIES = 3
"""Tries within `s3fs`, each of three tries within `botocore`; then the request is made anew from outside."""

_EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}

_USER = re.compile(r"(\w://)[^/\s]*@")
_QUERY = re.compile(r"(https?://[^\s?\"']*)\?[^\s\"']*")

_PASSING_STATUS = {408, 409, 425, 429}
_PASSING_CODES = {"RequestTimeout", "IncompleteBody", "SlowDown", "NoSuchUpload"}
"""NoSuchUpload: an upload in parts was completed, and the answer lost; made anew, it finds out so."""


def open_remote(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. No listing is ever taken from a cache. Raises UserError."""
    scheme = urlsplit(url).scheme
    name = _ALIASES.get(scheme, scheme)
    options = dict(_OPTIONS.get(name, {}))
    if name in _EXTRAS:
        options["use_listings_cache"] = False
    try:
        fs, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        install = "pip install 'zoomtrail[s3]'" if name == "s3" else f"pip install {_EXTRAS.get(name, 'its library')}"
        raise UserError(f"{shown(url)}: {scheme}:// needs a library that is not installed; {install}") from error
    except ValueError as error:
        raise UserError(f"{shown(url)}: there is no file system for {scheme}://") from error
    if name == "s3":
        fs.retries = _S3_TRIES
    return fs, str(path)


def is_remote(url: str) -> bool:
    """Whether a path is a URL of something else than this machine's files."""
    return "://" in url and not url.startswith(("file://", "local://"))


def shown(text: str) -> str:
    """A text whose URLs hold no user, no password, and of a web server no query: each may be a secret."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def patiently(work: Callable[[], T]) -> T:
    """What a request gives, made again with growing random pauses while its error may pass by itself."""
    wait, stop = wait_random_exponential(multiplier=0.2, max=15), stop_after_delay(PATIENCE_S)
    return Retrying(retry=retry_if_exception(passes), wait=wait, stop=stop, reraise=True)(work)


def passes(error: BaseException) -> bool:
    """Whether an error may pass by itself: by its type, or the status or code that a server gave."""
    status, code = answered(error)
    if status is not None:
        return status in _PASSING_STATUS or (status >= 500 and status != 501) or code in _PASSING_CODES
    passing: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError, *_network_errors())
    return any(isinstance(cause, passing) for cause in _causes(error))


def missing(error: BaseException) -> bool:
    """Whether an error says that there is no such file; a bucket or a server that is not there says nothing of files.

    `fsspec` calls a file of a web server missing whatever went wrong.
    """
    status, code = answered(error)
    told = status in (None, 404, 410) and code != "NoSuchBucket"
    return isinstance(error, FileNotFoundError) and told and not passes(error)


def answered(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and code of the answer behind an error; None and "" where there was none."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore's
            code = str(response.get("Error", {}).get("Code", ""))
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), code
        for name in ("status", "status_code", "code"):  # aiohttp's, azure's, gcsfs'
            if isinstance(status := getattr(cause, name, None), int):
                return status, ""
    return None, ""


def reason(error: BaseException) -> str:
    """Why a file system failed, in one line and without what may be secret."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shown(" ".join(str(said).split()))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _network_errors() -> tuple[type[BaseException], ...]:
    """Errors of connections and of cut answers, of the clients that are in use."""
    found: list[type[BaseException]] = []
    if "aiohttp" in sys.modules:
        from aiohttp import ClientError

        found.append(ClientError)
    if (botocore := sys.modules.get("botocore.exceptions")) is not None:
        found += [botocore.HTTPClientError, botocore.IncompleteReadError, botocore.ResponseStreamingError]
    return tuple(found)
