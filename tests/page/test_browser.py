"""The page as a person uses it, in headless Chromium."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from pipeline.page.server import Server
from pipeline.store import RunStore
from tests.corpus import render_video
from tests.page.conftest import Serve
from tests.page.watching import ATTACK, film, record_other_pictures

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 30_000


class Visit:
    """A tab that notes what must not happen: dialogs, errors, refused policies, requests to elsewhere."""

    def __init__(self, tab: "Page", server: Server) -> None:
        self.tab, self.url = tab, server.url.rstrip("/")
        self.dialogs: list[str] = []
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.set_default_timeout(PATIENCE_MS)
        tab.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.on("request", lambda request: self.asked.append(request.url))

    def go(self, path: str) -> "Page":
        self.tab.goto(self.url + path)
        return self.tab

    def wait(self, script: str) -> None:
        """Until an expression is true. Playwright's own way evaluates a text in the page, which the policy forbids."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.tab.evaluate(script):
            assert time.monotonic() < deadline, script
            self.tab.wait_for_timeout(50)

    @property
    def place(self) -> str:
        """Path, query and anchor of the address now."""
        return self.tab.url.removeprefix(self.url)

    @property
    def shown(self) -> str:
        """The attempt whose page this is."""
        return parse_qs(urlsplit(self.tab.url).query)["id"][0]


Visiting = Callable[[Server], Visit]


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Visiting]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    visits: list[Visit] = []

    def begin(server: Server) -> Visit:
        visits.append(Visit(context.new_page(), server))
        return visits[-1]

    yield begin
    for one in visits:
        assert not one.dialogs
        assert not [url for url in one.asked if not url.startswith(one.url)]
    context.close()


def rows(tab: "Page") -> list[str]:
    return [row.get_attribute("data-id") or "" for row in tab.query_selector_all(".row")]


def test_the_list_is_filtered_searched_and_gone_back_through(page: Server, visit: Visiting) -> None:
    there = visit(page)
    tab = there.go("/")
    assert rows(tab) == [f"q{n}@{k}" for n in range(3) for k in range(2)]
    tab.click(".facet a:has-text('kept')")
    tab.wait_for_url("**outcome=kept*")
    assert parse_qs(urlsplit(tab.url).query) == {"outcome": ["kept"]} and rows(tab) == ["q0@0", "q1@0", "q2@0", "q2@1"]
    tab.fill("input[name=where]", "n_zooms = 1")
    tab.press("input[name=where]", "Enter")
    tab.wait_for_url("**where=*")
    assert rows(tab) == ["q2@1"]
    tab.go_back()
    assert len(rows(tab)) == 4
    tab.keyboard.press("/")
    tab.keyboard.type("closer at 3")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**search=*")
    assert rows(tab) == ["q0@0", "q1@0", "q2@0"]
    tab.keyboard.press("Escape")
    tab.wait_for_url(there.url + "/")
    tab.select_option("select[name=sort]", "-evidence_gain")
    tab.wait_for_url("**sort=*")
    tab.fill("input[name=where]", "no_such_column > 1")
    tab.press("input[name=where]", "Enter")
    tab.wait_for_selector("[role=alert]")
    assert "there is no column no_such_column" in tab.inner_text("[role=alert]")


def test_keys_lead_through_list_attempts_turns_and_back(page: Server, visit: Visiting) -> None:
    there = visit(page)
    tab = there.go("/?outcome=kept")
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    tab.keyboard.press("k")
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**id={quote('q1@0')}*")
    assert there.shown == "q1@0" and "outcome=kept" in tab.url
    for key, then in (("j", "q2@0"), ("ArrowRight", "q2@1"), ("k", "q2@0"), ("ArrowLeft", "q1@0")):
        tab.keyboard.press(key)
        tab.wait_for_url(f"**id={quote(then)}*")
    for key, then in (("n", "#turn-1"), ("n", "#turn-2"), ("n", "#turn-3"), ("n", "#turn-3"), ("p", "#turn-2")):
        tab.keyboard.press(key)
        there.wait(f"location.hash === '{then}'")
    assert tab.evaluate("document.querySelector('.turn.current').id") == "turn-2"
    tab.keyboard.press("?")
    assert tab.is_visible("#help")
    tab.keyboard.press("j")
    assert there.shown == "q1@0", "an open dialog has the keys"
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#help")
    tab.keyboard.press("Escape")
    tab.wait_for_selector(".rows")
    assert there.place.startswith("/?outcome=kept")
    there.wait("document.activeElement.dataset.id === 'q1@0'")  # back at the row that one came from
    assert not there.said


def test_a_zoom_takes_the_video_there_and_space_plays_it(page: Server, visit: Visiting) -> None:
    there = visit(page)
    tab = there.go("/trajectory?id=q0%400")
    there.wait("document.getElementById('video').readyState >= 2")
    tab.click(".timeline .zooms >> nth=0")
    there.wait("Math.abs(document.getElementById('video').currentTime - 2) < 0.05")
    there.wait("location.hash === '#turn-1'")
    there.wait("Math.abs(parseFloat(document.getElementById('playhead').getAttribute('x1')) - 40.5) < 0.3")
    tab.mouse.click(5, 300)
    tab.keyboard.press("Space")
    there.wait("!document.getElementById('video').paused && document.getElementById('video').currentTime > 2.2")
    tab.keyboard.press("Space")
    there.wait("document.getElementById('video').paused")
    tab.click("#turn-2 .seek")
    there.wait("Math.abs(document.getElementById('video').currentTime - 2) < 0.05")
    tab.keyboard.press("n")
    there.wait("location.hash === '#turn-2'")
    tab.click(".curve .point[data-turn='1'] circle")
    there.wait("location.hash === '#turn-1'")
    assert not there.said


def test_a_deep_link_shows_the_turn_its_frames_and_what_is_learned(page: Server, visit: Visiting) -> None:
    there = visit(page)
    tab = there.go("/trajectory?id=q0%401&outcome=dropped#turn-2")
    assert "current" in (tab.get_attribute("#turn-2", "class") or "")
    there.wait(
        "[...document.querySelectorAll('#turn-2 .frame img')].every((i) => i.complete && i.naturalWidth === 160)"
    )
    assert tab.inner_text(".steps .dim") == "1 of 2"
    assert tab.inner_text(".rulings .decisive .reason") == "not well-formed"
    learned = tab.eval_on_selector_all(".message.learned", "all => all.map((m) => m.textContent)")
    grey = tab.eval_on_selector_all(".message:not(.learned)", "all => all.map((m) => m.textContent)")
    assert len(learned) == 2 and all("assistant" in text for text in learned)
    assert any("system" in text or "user" in text for text in grey)
    colours = {
        tab.eval_on_selector(one, "e => getComputedStyle(e).backgroundColor")
        for one in (".message.learned", ".message:not(.learned)")
    }
    assert len(colours) == 2
    tab.click("#turn-2 .frame >> nth=1")
    assert "160 × 120 as the model saw it" in tab.inner_text("#large p")
    assert not there.said


def test_every_text_of_an_attack_is_shown_as_text_and_runs_nothing(attacked: Server, visit: Visiting) -> None:
    there = visit(attacked)
    paths = ["/", f"/?{'&'.join(f'{n}={quote(ATTACK)}' for n in ('where', 'search', 'status', 'question', 'sort'))}"]
    paths += [f"/trajectory?id={quote(ATTACK + f'@{k}', safe='')}" for k in (0, 1)]
    paths += [f"/trajectory?id={quote(ATTACK)}", f"/{quote(ATTACK)}"]
    for path in paths:
        tab = there.go(path)
        tab.wait_for_load_state("networkidle")
        for details in tab.query_selector_all("details:not([open]) > summary"):
            details.click()
        if path in paths[:4]:
            seen = tab.inner_text("body")
            assert "globalThis.hit = 1</script><img src=/hit" in seen and "{{ 7*7 }} ${7*7}" in seen, path
        assert tab.evaluate("globalThis.hit") is None
        assert tab.eval_on_selector_all("iframe, a[href^=javascript], [onerror], [onload]", "all => all.length") == 0
        assert tab.eval_on_selector_all("script", "all => all.every((s) => s.src.includes('/static/'))")
    assert not [url for url in there.asked if urlsplit(url).path.endswith("/hit")]
    refused = [line for line in there.said if "Failed to load resource" not in line]
    assert not refused, "no policy was even needed"
    tab = there.go(paths[2])
    there.wait("document.getElementById('video').readyState >= 1")
    there.wait("document.querySelector('.frame img').naturalWidth === 80")
    told = tab.inner_text("body")
    assert told.count("globalThis.hit = 1</script>") > 12


def test_frames_that_are_others_now_are_told_and_not_shown(own: RunStore, serve: Serve, visit: Visiting) -> None:
    record_other_pictures(own)
    there = visit(serve(own))
    tab = there.go("/trajectory?id=q0%400")
    tab.wait_for_selector("#turn-1 .frame.lost .why")
    there.wait("document.querySelector('#turn-1 .why').textContent.includes('another picture now')")
    there.wait("document.getElementById('frame-fault').textContent.includes('recorded')")
    assert not tab.is_visible("#turn-1 .frame.lost img")


def test_another_film_in_its_place_is_told_and_not_shown(own: RunStore, serve: Serve, visit: Visiting) -> None:
    render_video(film(own, 0), 5, size=(160, 120), seed=99)
    there = visit(serve(own))
    tab = there.go("/trajectory?id=q0%400")
    there.wait("document.getElementById('video-fault').textContent.includes('not the video that the run saw')")
    there.wait("document.querySelector('#turn-1 .why')?.textContent.includes('not the video that the run saw')")
    assert not tab.is_visible("#turn-1 .frame.lost img")


def test_without_its_film_all_else_is_there(own: RunStore, serve: Serve, visit: Visiting) -> None:
    film(own, 0).unlink()
    there = visit(serve(own))
    tab = there.go("/trajectory?id=q0%400")
    assert "is not the video that the run saw, or is not here" in tab.inner_text("#video-fault")
    there.wait("document.querySelector('.overview .frame img').naturalWidth > 0")
    tab.keyboard.press("n")
    tab.keyboard.press("Space")
    assert tab.inner_text("#turn-1 .think") == "Closer at 1.0."
    tab.wait_for_selector("#turn-1 .frame.lost .why")


def test_it_is_readable_narrow_and_in_the_dark(page: Server, browser: "Browser") -> None:
    for scheme, width in (("light", 800), ("dark", 1280), ("dark", 400)):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab = context.new_page()
        for path in ("/", "/trajectory?id=q0%400"):
            tab.goto(page.url.rstrip("/") + path)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            ink, ground = tab.evaluate("['color', 'backgroundColor'].map((n) => getComputedStyle(document.body)[n])")
            dark = sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) < 200
            assert ink != ground and dark == (scheme == "dark")
        context.close()
