"""Pages served on loopback, and a browser where there is one."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.presets import preset, preset_names
from pipeline.page.server import Server
from pipeline.page.shared import SharedRows
from pipeline.page.site import Site
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from tests.page.watching import attacked_run, moved_run, watch_run
from tests.shards.published import Runs, published_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Serve = Callable[[RunStore], Server]


def shared(store: RunStore) -> SharedRows:
    """A run's rows as `view` loads them."""
    return SharedRows(Rows(store), {name: preset(name) for name in preset_names()})


@contextmanager
def served(store: RunStore, host: str = "127.0.0.1", videos: Sequence[str] = ()) -> Iterator[Server]:
    """A server of a run at a free port."""
    site = Site(shared(store), videos)
    with Server(site, host, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            site.close()


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return watch_run(tmp_path_factory.mktemp("watched"))


@pytest.fixture
def own(watched: RunStore, tmp_path: Path) -> RunStore:
    """A run of the test's own, whose films it may spoil."""
    return moved_run(watched, tmp_path)


@pytest.fixture(scope="session")
def page(watched: RunStore) -> Iterator[Server]:
    with served(watched) as server:
        yield server


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(attacked_run(tmp_path_factory.mktemp("attacked"))) as server:
        yield server


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a run until the test ends."""
    with ExitStack() as stack:
        yield lambda store: stack.enter_context(served(store))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium without a window; skips where it or Playwright is not installed.

    For one file of tests: as long as it is there, nothing else in this thread can run an event loop.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here: the page is not tried in a browser (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run of a protocol, made once."""
    made: dict[str, RunStore] = {}

    def of(name: str) -> RunStore:
        if name not in made:
            made[name] = published_run(tmp_path_factory.mktemp(name), name)
        return made[name]

    return of
