"""The report: one file that fetches nothing, the same each time, with every text as text."""

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from jobs.presets import preset
from jobs.report import report as write
from pipeline.page.report import report
from pipeline.page.tables import stats_tables
from pipeline.shards.stats import collect
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import UserError
from tests.corpus import read_barcode
from tests.page.conftest import shared
from tests.page.watching import attacked_run, film
from tests.shards.runs import whole_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def made(store: RunStore, each: int = 2, seed: int = 0) -> str:
    stats = collect(Rows(store), preset("default")).as_json()
    return report(shared(store), stats, "default", each, seed).decode()


def names(page: str) -> list[str]:
    return re.findall(r'<code dir="auto">(q\d@\d)</code>', page)


def test_it_shows_attempts_of_every_outcome_with_frames_that_were_seen(watched: RunStore) -> None:
    page = made(watched)
    kept, broken = names(page)[:2], names(page)[2:]
    assert len(kept) == len(set(kept)) == 2 and set(broken) == {"q0@1", "q1@1"}
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    seen = set()
    for picture in pictures:
        content = base64.b64decode(picture)
        with Image.open(io.BytesIO(content)) as opened:
            assert max(opened.size) <= 200
        seen.add(read_barcode(content))
    assert {0, 20} <= seen and len(seen) >= 5
    assert "not well-formed" in page


def test_it_is_drawn_by_its_seed_and_comes_out_the_same_again(watched: RunStore) -> None:
    assert made(watched) == made(watched)
    drawn = {tuple(names(made(watched, each=1, seed=seed))) for seed in range(6)}
    assert len(drawn) > 1


def test_it_fetches_and_runs_nothing(watched: RunStore) -> None:
    page = made(watched)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy and style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    allowed = policy[1].replace("&#39;", "'")
    assert allowed.startswith("default-src 'none'; img-src data:;") and f"style-src 'sha256-{digest}'" in allowed
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', page)


def test_without_the_films_all_else_is_there(own: RunStore) -> None:
    for shard in range(3):
        film(own, shard).unlink()
    page = made(own)
    assert "is not the video that the run saw" in page and "Closer at 1.0." in page
    assert page.count("data:image/jpeg") >= 2, "the overview, which the captions hold"


def test_a_run_that_goes_on_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    store = whole_run(str(tmp_path / "run"))
    page = made(store, each=1)
    assert "not yet captioned" in page and "content filter" in page and "alert(1)</script>" not in page


def test_it_is_written_beside_the_run_or_where_one_says_on_any_storage(
    watched: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "r.html"
    write(watched.url, str(out), "default", 1, 0)
    assert capsys.readouterr().out.startswith(f"wrote {out} (")
    write(watched.url, None, "default", 1, 0)
    beside = Path(watched.url) / "report.html"
    assert beside.read_bytes() == out.read_bytes()
    beside.unlink()
    write(watched.url, "memory://reports/r.html", "default", 1, 0)
    import fsspec

    assert fsspec.filesystem("memory").cat("/reports/r.html") == out.read_bytes()
    with pytest.raises(UserError, match="no such preset"):
        write(watched.url, str(out), "nothing", 1, 0)


def test_an_attack_is_shown_as_text_in_it(tmp_path: Path, browser: "Browser") -> None:
    (tmp_path / "report.html").write_text(made(attacked_run(tmp_path)), encoding="utf-8")
    tab = browser.new_page()
    noted: list[Any] = []
    tab.on("dialog", lambda dialog: noted.append(dialog))
    tab.on("console", lambda message: noted.append(message.text))
    tab.on("pageerror", lambda error: noted.append(error))
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "report.html").as_uri())
    for details in tab.query_selector_all("details:not([open]) > summary"):
        details.click()
    assert "globalThis.hit = 1</script><img src=/hit" in tab.inner_text("body")
    assert tab.evaluate("globalThis.hit") is None and not noted
    assert [url for url in asked if not url.startswith("data:")] == [tab.url]
    assert tab.evaluate("document.querySelector('.frame img').naturalWidth") == 80
    tab.close()


def test_whatever_statistics_there_are_become_tables() -> None:
    found = {
        "run": "r",
        "where": None,
        "funnel": [],
        "totals": {"attempts": 3, "videos": 2},
        "means": {"p": {"kept": {"mean": 0.5, "rows": 2}, "verified": {"mean": None, "rows": 0}}},
        "distributions": {"zooms": {"rows": 3, "bins": (1, 2, 0)}},
        "groups": {"protocol": [{"value": "love_r1", "planned": 3, "reached": {"kept": 1}}], "source": []},
        "shards": [{"stage": "teach", "rows": n} for n in range(100)],
        "new": [1, 2],
    }
    tables = {table.title: table for table in stats_tables(found, ("funnel",))}
    assert tables["run"].rows == (("run", ("r",)),) and tables["run"].columns == ()
    assert tables["totals"].rows == (("attempts", (3,)), ("videos", (2,)))
    assert tables["means"].columns == ("kept mean", "kept rows", "verified mean", "verified rows")
    assert tables["means"].rows == (("p", (0.5, 2, None, 0)),)
    assert tables["distributions"].counts == () and tables["distributions"].rows[0][1] == ((1, 2, 0), 3)
    assert tables["groups: protocol"].rows == (("love_r1", (3, 1)),)
    assert tables["shards"].left_out == 40 and tables["shards"].counts[:3] == (0.0, 1.0, 2.0)
    assert tables["new"].rows == (("0", (1,)), ("1", (2,)))
