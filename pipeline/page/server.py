"""The local page over HTTP: what is asked is checked here, what is answered comes from the site."""

import ipaddress
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.page.films import Film
from pipeline.page.site import Answer, Site
from schemas.errors import Rejected, UserError, ZoomtrailError

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "media", "connect")),
        *(f"{what} 'none'" for what in ("base-uri", "frame-ancestors", "object-src")),
        "form-action 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Only our own files run or style, nothing is fetched from elsewhere, and no text can become HTML in a script."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHUNK = 1 << 18
_IDLE_S = 60.0
_LONGEST_ADDRESS = 16_000
_LOOK_S = 2.0
_REST = 10
"""A run is looked at again after so many seconds, and after so many times as long as that took."""


class Server(ThreadingHTTPServer):
    """A server of one site, which takes in what is added to its run.

    host, port: where it listens, port 0 for any free one. Raises UserError where it cannot.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, site: Site, host: str, port: int) -> None:
        self.site = site
        self._renewing, self._renew_at = threading.Lock(), 0.0
        self.names = _names(host)
        self.loopback = _is_loopback(host)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"cannot listen on {host} port {port} ({said}): choose another --port, or 0 for any"
            ) from error

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{'localhost' if shown in ('0.0.0.0', '[::]') else shown}:{port}/"

    def allows(self, host: str) -> bool:
        """Whether a `Host` header names this server. A foreign name that resolves to it is another site's trick (DNS
        rebinding); an address in digits is none."""
        name = urlsplit(f"//{host}").hostname or ""
        if name in self.names:
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback or not self.loopback
        return False

    def renew(self) -> None:
        """Lets the site show rows that were added. While one thread loads them, the others go on with what is there."""
        if time.monotonic() < self._renew_at or not self._renewing.acquire(blocking=False):
            return
        try:
            began = time.monotonic()
            with suppress(ZoomtrailError):  # a run in the middle of a change: what is loaded is still shown
                self.site = self.site.renewed()
            now = time.monotonic()
            self._renew_at = now + max(_LOOK_S, _REST * (now - began))
        finally:
            self._renewing.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle of an answer is nothing to report."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection. GET and HEAD only."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "zoomtrail"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """Answers a request, whole or a range of a video."""
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body that nobody reads must not be taken for the next request
        human = "text/html" in self.headers.get("Accept", "")
        self._begun = False
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, max_num_fields=50))
        except ValueError:
            self._send(self.server.site.fault(400, "this address cannot be read", human))
            return
        try:
            self._answer(parts.path, query, human)
        except (ConnectionError, TimeoutError):
            raise  # a browser that left
        except Exception as error:
            print(f"zoomtrail: {self.path!a}: {type(error).__name__}: {str(error)!a}", file=sys.stderr)
            if self._begun:
                self.close_connection = True
            else:
                self._send(self.server.site.fault(500, "the page failed at this; its terminal says why", human))

    def _answer(self, path: str, query: dict[str, str], human: bool) -> None:
        if (refusal := self._refusal()) is not None:
            self._send(self.server.site.fault(*refusal, human=False))
        elif path == "/video":
            self._video(query.get("id", ""))
        else:
            if path in ("/", "/trajectory"):
                self.server.renew()
            self._send(self.server.site.answer(path, query, human))

    do_HEAD = do_GET

    def _refusal(self) -> tuple[int, str] | None:
        """Why a request is not answered at all."""
        if not self.server.allows(self.headers.get("Host", "")):
            return 403, "this Host is not answered: open the address that `zoomtrail view` printed"
        crossing = self.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        if crossing and self.headers.get("Sec-Fetch-Mode") != "navigate":
            return 403, "another site asks for this: refused"
        if len(self.path) > _LONGEST_ADDRESS:
            return 414, "this address is too long"
        return None

    def _send(self, answer: Answer) -> None:
        charset = "; charset=utf-8" if answer.mime.startswith("text/") else ""
        self._begin(answer.status, answer.mime + charset, len(answer.body), answer.age_s)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _video(self, trajectory_id: str) -> None:
        try:
            with self.server.site.film(trajectory_id) as film:
                self._send_film(film)
        except Rejected as error:
            self._send(self.server.site.fault(404, error.message, False))
        except ZoomtrailError as error:
            self._send(self.server.site.fault(400, str(error), False))

    def _send_film(self, film: Film) -> None:
        """The file, or the one range of it that is asked for; a form of range that we do not know means all of it."""
        span = _span(self.headers.get("Range", ""), film.size)
        if span is None:
            self._begin(416, "application/json", 0, 0, {"Content-Range": f"bytes */{film.size}"})
            return
        first, last, partial = span
        headers = {"Accept-Ranges": "bytes"}
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{film.size}"
        self._begin(206 if partial else 200, film.mime, last - first + 1, 0, headers)
        if self.command == "HEAD":
            return
        film.file.seek(first)
        left = last - first + 1
        while left > 0 and (chunk := film.file.read(min(_CHUNK, left))):
            self.wfile.write(chunk)
            left -= len(chunk)
        if left:
            self.close_connection = True  # the file shrank under us: what was announced cannot be sent

    def _begin(self, status: int, mime: str, length: int, age_s: int, more: dict[str, str] | None = None) -> None:
        self._begun = True
        self.send_response(status)
        caching = f"private, max-age={age_s}" if age_s else "no-store"
        for name, value in (_HEADERS | {"Cache-Control": caching} | (more or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses (another method, a broken request), in our form."""
        self.close_connection = True
        line = "only GET and HEAD are answered" if code == 501 else (message or "this request cannot be read")
        self.command = getattr(self, "command", None) or "GET"
        self._send(self.server.site.fault(405 if code == 501 else code, line, False))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is the user's."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """As RFC 9110 wants it."""
        return formatdate(timestamp, usegmt=True)


def _span(header: str, size: int) -> tuple[int, int, bool] | None:
    """(first byte, last byte, whether it is a part) that a Range header asks for; None where the file has no such."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return 0, size - 1, False
    first, last = match.groups()
    if not first:
        begin, end = max(0, size - int(last)), size - 1
    else:
        begin, end = int(first), min(int(last or size - 1), size - 1)
        if last and int(last) < begin:
            return 0, size - 1, False
    return (begin, end, True) if begin <= end else None


def _names(host: str) -> set[str]:
    """The names by which a server may be called."""
    own = set() if _is_loopback(host) else {socket.gethostname().lower()}
    return {"localhost", host.lower(), *own} - {""}


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
