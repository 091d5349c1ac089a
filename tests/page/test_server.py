"""What is answered over HTTP, and to whom."""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pipeline.page.films import roots_beside
from pipeline.page.server import Server
from pipeline.page.site import Site
from pipeline.store import RunStore
from schemas.errors import UserError
from schemas.trajectory import Trajectory
from schemas.verdict import Verdict
from tests.page.conftest import Serve, served, shared
from tests.page.watching import film, name_video
from tests.shards.runs import commit

SHOULD = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.body, self.headers = response.status, response.read(), response.headers

    @property
    def error(self) -> str:
        line: str = json.loads(self.body)["error"]
        return line


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> Answer:
    """An answer to a request whose path goes out just as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return Answer(connection.getresponse())
    finally:
        connection.close()


def about(name: str, **more: object) -> str:
    return f"{name}?{urlencode({'id': 'q0@0', **more})}"


def test_a_video_is_sent_whole_or_by_range(page: Server, watched: RunStore) -> None:
    content = film(watched, 0).read_bytes()
    whole = ask(page, about("/video"))
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["Content-Type"] == "video/mp4" and whole.headers["Accept-Ranges"] == "bytes"
    size = len(content)
    for asked, first, last in (
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, size - 1),
        ("bytes=-50", size - 50, size - 1),
        (f"bytes=10-{size * 2}", 10, size - 1),
        (f"bytes=-{size * 2}", 0, size - 1),
    ):
        part = ask(page, about("/video"), Range=asked)
        assert (part.status, part.body) == (206, content[first : last + 1]), asked
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    for asked in (f"bytes={size}-", "bytes=-0"):
        beyond = ask(page, about("/video"), Range=asked)
        assert (beyond.status, beyond.headers["Content-Range"], beyond.body) == (416, f"bytes */{size}", b"")
    for asked in ("bytes=5-1", "bytes=0-1,4-5", "pages=1-2", "bytes=-"):
        assert ask(page, about("/video"), Range=asked).status == 200, asked


def test_head_tells_what_get_would_send(page: Server, watched: RunStore) -> None:
    size = film(watched, 0).stat().st_size
    head = ask(page, about("/video"), "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(size))
    part = ask(page, about("/video"), "HEAD", Range="bytes=0-9")
    assert (part.status, part.body, part.headers["Content-Length"]) == (206, b"", "10")
    assert ask(page, "/", "HEAD").body == b""


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/static/../../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static//etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/%2fetc%2fpasswd",
        "/static/..\\..\\site.py",
        "/static/../site.py",
        "/static/",
        "/static/style.css/../../site.py",
        "/static/style.css%00.js",
        "/templates/base.html.jinja",
        "/run.yaml",
        "/video",
        "/video?id=",
        "/video?id=/etc/passwd",
        "/video?id=../../../../etc/passwd",
        "/video?id=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/video?id=file:///etc/passwd",
        "/video?id=q0%400/../../etc/passwd",
        "/video?id=q99%400",
        "/video/q0@0",
        "/frame?id=/etc/passwd&n=0",
        "/frame?id=q0%400&n=/etc/passwd",
        "/frame?id=q0%400&n=-1",
        "/frame?id=q0%400&n=99999999999999999999",
        "/frame?id=q0%400&n=²",
        "http://127.0.0.1/etc/passwd",
    ],
)
def test_nothing_but_the_runs_own_is_ever_read(page: Server, path: str) -> None:
    answer = ask(page, path.replace("²", "%C2%B2"))
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body and b"import" not in answer.body
    assert "\n" not in answer.error


def test_a_path_that_now_leads_elsewhere_is_refused(own: RunStore, serve: Serve) -> None:
    """A link, another file, a pipe or none in the place of a film: only the bytes that the run saw are sent."""
    server = serve(own)
    path = film(own, 0)
    assert ask(server, about("/video"), Range="bytes=0-9").status == 206
    path.unlink()
    gone = ask(server, about("/video"))
    assert gone.status == 404 and gone.error == f"{path} is not the video that the run saw, or is not here"
    for elsewhere in ("/etc/passwd", film(own, 1), "/dev/zero"):
        path.symlink_to(elsewhere)
        linked = ask(server, about("/video"))
        assert (linked.status, linked.body) == (404, gone.body), "whether there is a file is not told"
        path.unlink()
    os.mkfifo(path)
    began = time.monotonic()
    assert ask(server, about("/video")).body == gone.body
    assert time.monotonic() - began < 5
    path.unlink()
    path.mkdir()
    assert ask(server, about("/video")).body == gone.body


def test_a_linked_film_with_the_recorded_bytes_is_played(own: RunStore, serve: Serve, tmp_path: Path) -> None:
    path = film(own, 0)
    path.rename(tmp_path / "elsewhere.bin")
    path.symlink_to(tmp_path / "elsewhere.bin")
    assert ask(serve(own), about("/video"), Range="bytes=0-9").status == 206


class Elsewhere(SimpleHTTPRequestHandler):
    """A web server of a folder that notes what it is asked for."""

    def __init__(self, asked: list[str], *arguments: Any, folder: Path) -> None:
        self.asked = asked
        super().__init__(*arguments, directory=str(folder))

    def log_message(self, format: str, *arguments: object) -> None:
        self.asked.append(self.path)


@contextmanager
def web_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked for."""
    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Elsewhere, asked, folder=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_run_cannot_have_addresses_asked_for(own: RunStore, tmp_path: Path) -> None:
    """A run from someone else names what it likes: a metadata service, an internal page, a file of this machine."""
    with web_server(tmp_path) as (url, asked):
        hostile = [f"{url}/secret", f"{url}/v/../secret", f"{url}/v/%2e%2e/secret", f"simplecache::{url}/v/a"]
        hostile += [f"{url}.example/v/a", "s3://bucket/key", f"{url}/v"]
        for uri in hostile:
            name_video(own, uri)
            with served(own, videos=[f"{url}/v"]) as server:
                refused = ask(server, about("/frame", n=6))
                assert refused.status == 404 and "--videos" in refused.error, uri
                assert ask(server, about("/video")).status == 404
                assert ask(server, about("/trajectory")).status == 200
        assert not asked


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "file:///etc/passwd", "/dev/zero", "/proc/self/environ", "/nowhere", ""]
)
def test_a_run_cannot_learn_what_lies_on_this_machine(own: RunStore, uri: str) -> None:
    name_video(own, uri)
    with served(own) as server:
        for path in (about("/frame", n=6), about("/video")):
            refused = ask(server, path)
            said = f"{uri} is not the video that the run saw, or is not here"
            assert (refused.status, refused.error) == (404, said), path


def test_videos_of_other_machines_are_fetched_from_where_the_user_says(
    own: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOMTRAIL_VIDEO_CACHE", str(tmp_path / "cache"))
    path = film(own, 0)
    with web_server(path.parent) as (url, asked):
        name_video(own, f"{url}/{path.name}")
        with served(own, videos=[url]) as server:
            assert ask(server, about("/frame", n=6)).headers["Content-Type"] == "image/jpeg"
        assert asked
        path.write_bytes(film(own, 1).read_bytes())
        with served(own, videos=[url]) as server:
            assert "is not the video that the run saw" in ask(server, about("/frame", n=6)).error


def test_a_run_on_a_store_has_its_videos_from_there() -> None:
    assert roots_beside("s3://bucket/runs/one") == ("s3://bucket/",)
    assert roots_beside("/data/run") == roots_beside("file:///data/run") == ()


def test_a_fault_of_ours_is_told_as_one_and_the_next_request_is_answered(
    watched: RunStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("of our\x1b own")

    with served(watched) as server:
        monkeypatch.setattr("pipeline.page.site.read_attempt", fail)
        failed = ask(server, about("/trajectory"))
        assert failed.status == 500 and "its terminal says why" in failed.error
        assert capsys.readouterr().err == f"zoomtrail: '{about('/trajectory')}': ValueError: 'of our\\x1b own'\n"
        unreadable = ask(server, "/?" + "a=1&" * 60)
        assert unreadable.status == 400 and capsys.readouterr().err == ""
        assert ask(server, "/").status == 200


def test_rows_that_are_added_are_shown_at_the_next_look(
    own: RunStore, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.page.server._LOOK_S", 0.0)
    monkeypatch.setattr("pipeline.page.server._REST", 0)
    made, judged = own.rows(Trajectory, "teach", 2), own.rows(Verdict, "replay", 2)
    for stage in ("teach", "replay"):
        own.storage.remove(own.shard_name(stage, 2))
    server = serve(own)
    assert b"not yet rolled out" in ask(server, about("/trajectory", id="q2@0")).body
    site = server.site
    ask(server, "/")
    assert server.site is site, "nothing was added, so nothing is loaded again"
    commit(own, "teach", 2, made)
    commit(own, "replay", 2, judged)
    assert b"not yet rolled out" not in ask(server, about("/trajectory", id="q2@0")).body
    assert ask(server, about("/frame", id="q2@0", n=0)).status == 200


def test_only_names_of_this_machine_are_answered(page: Server) -> None:
    for host in ("localhost", "127.0.0.1", f"LOCALHOST:{page.server_port}", "[::1]:80", "127.8.8.8"):
        assert ask(page, "/", Host=host).status == 200, host
    for host in ("evil.example", "localhost.evil.example", "192.168.1.7", "", "0.0.0.0", "[::2]"):
        refused = ask(page, "/", Host=host)
        assert refused.status == 403 and "Host" in refused.error, host


def test_a_server_for_others_answers_to_addresses_and_its_own_name_only(watched: RunStore) -> None:
    with Server(Site(shared(watched)), "0.0.0.0", 0) as server:
        assert server.allows("192.168.1.7:80") and server.allows(socket.gethostname()) and server.allows("localhost")
        assert not server.allows("evil.example") and not server.loopback


def test_another_site_may_lead_here_but_not_read_along(page: Server) -> None:
    crossing = {"Sec_Fetch_Site": "cross-site"}
    assert ask(page, about("/frame", n=0), **crossing, Sec_Fetch_Mode="no-cors").status == 403
    assert ask(page, "/", **crossing, Sec_Fetch_Mode="navigate").status == 200
    assert ask(page, about("/frame", n=0), Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors").status == 200


def test_only_get_and_head_are_answered(page: Server) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
        refused = ask(page, "/", method)
        assert refused.status == 405 and "GET and HEAD" in refused.error, method


def test_every_answer_forbids_what_it_does_not_need(page: Server) -> None:
    paths = ["/", about("/trajectory"), about("/frame", n=0), about("/video"), "/static/list.js", "/nowhere"]
    for path in paths:
        headers = ask(page, path).headers
        assert {name: headers[name] for name in SHOULD} == SHOULD, path
        policy = headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "style-src 'self'" in policy
        assert "unsafe" not in headers["Content-Security-Policy"] and "data:" not in headers["Content-Security-Policy"]


def test_errors_are_a_line_for_programs_and_a_page_for_people(page: Server) -> None:
    for path in (about("/trajectory", id="no"), "/nowhere", about("/trajectory", preset="no")):
        told = ask(page, path)
        assert told.headers["Content-Type"] == "application/json" and told.error
        shown = ask(page, path, Accept="text/html")
        assert shown.headers["Content-Type"].startswith("text/html") and told.error.encode() in shown.body
    assert ask(page, "/?" + "a" * 17_000).status == 414


def test_a_connection_serves_many_requests(page: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=20)
    for _ in range(3):
        connection.request("GET", "/static/style.css")
        assert connection.getresponse().read().startswith(b":root")
    assert connection.sock is not None
    connection.close()


def test_a_taken_port_is_one_clear_line(page: Server, watched: RunStore) -> None:
    site = Site(shared(watched))
    for port in (page.server_port, 70_000):
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1 port {port} .*--port, or 0") as caught:
            Server(site, "127.0.0.1", port)
        assert "\n" not in str(caught.value)
