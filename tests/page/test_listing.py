"""Lists: filters, their counts, text search, order, neighbours; and the addresses that say them."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.page.listing import PAGE_ROWS, Listed, Listing
from pipeline.page.questions import Questions
from pipeline.page.searching import Searches
from pipeline.page.state import ListState
from pipeline.shards.table import Rows
from schemas.trajectory import Trajectory
from tests.page.conftest import shared
from tests.shards.runs import GOOD, begin, commit, question, trajectory, tree, verdict, whole_run, zoom_turn

PRESETS = ("default", "strict", "videozoomer", "love_r1")


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    store = whole_run(str(tmp_path_factory.mktemp("run")))
    return Listing(shared(store), Questions(store))


def ids(listed: Listed) -> list[str]:
    assert not listed.fault, listed.fault
    return [row["trajectory_id"] for row in listed.rows]


def counts(listed: Listed, name: str) -> dict[str, int]:
    return {choice.value: choice.rows for choice in listed.choices[name]}


def test_all_attempts_are_listed_as_planned_with_their_reasons(listing: Listing) -> None:
    listed = listing.page(ListState())
    assert listed.total == len(listed.rows) == 12
    assert counts(listed, "status") == {"answered": 3, "gave_up": 1, "malformed": 1, "failed": 5, "not_run": 2}
    outcomes = counts(listed, "outcome")
    assert next(iter(outcomes)) == "kept" and outcomes["kept"] == 1 and sum(outcomes.values()) == 12
    assert outcomes["caption/video_truncated"] == 2 and outcomes["teach/content_filter"] == 1
    assert listed.rows[0]["question"].startswith("Which colour")
    assert all(row["question"] for row in listed.rows), "of attempts that have not been made, too"


def test_filters_narrow_and_each_counts_what_it_would_hold(listing: Listing) -> None:
    failed = listing.page(ListState(status="failed"))
    assert failed.total == 5 and counts(failed, "status")["answered"] == 3
    assert "kept" not in counts(failed, "outcome")
    assert ids(listing.page(ListState(outcome="kept"))) == ["q0@0"]
    assert listing.page(ListState(outcome="dropped")).total == 11
    assert ids(listing.page(ListState(outcome="no evidence gain"))) == ["q0@1"]
    assert ids(listing.page(ListState(correct="no"))) == ["q3@1"]
    assert ids(listing.page(ListState(question="q1"))) == ["q1@0", "q1@1"]
    assert ids(listing.page(ListState(video="v3", correct="no", protocol="videozoomer"))) == ["q3@1"]
    assert listing.page(ListState(protocol="no such")).total == 0


def test_another_preset_tells_other_reasons(listing: Listing) -> None:
    assert ids(listing.page(ListState(preset="videozoomer", outcome="kept"))) == ["q0@0", "q0@1"]
    assert "there is no preset" in listing.page(ListState(preset="x'; DROP TABLE rows; --")).fault


def test_a_condition_is_one_expression_over_columns_or_is_refused_in_a_line(listing: Listing) -> None:
    assert ids(listing.page(ListState(where="evidence_gain > 0.2 AND rows.n_zooms = 1"))) == ["q0@0", "q3@1"]
    for bad in (
        "nothing > 1",
        "true) OR (SELECT count(*) FROM rows) > (0",
        "1; DROP TABLE rows",
        "(SELECT true)",
        "p_gold_evidence",
        "read_text('/etc/passwd') IS NOT NULL",
        "trajectory_id IN (SELECT id FROM met_0)",
        "'",
    ):
        fault = listing.page(ListState(where=bad)).fault
        assert fault and "\n" not in fault, bad
    assert listing.page(ListState()).total == 12
    assert listing.page(ListState(status="' OR true --")).total == 0


def test_text_is_found_in_questions_choices_answers_thoughts_and_ids_in_any_case(listing: Listing) -> None:
    assert listing.page(ListState(search="WHICH COLOUR")).total == 12
    assert listing.page(ListState(search="GRÜN")).total == 12
    assert ids(listing.page(ListState(search="hm"))) == ["q1@0", "q3@0"], "thoughts, of failed attempts, too"
    assert ids(listing.page(ListState(search="HM", status="failed"))) == ["q3@0"]
    assert ids(listing.page(ListState(search="Q1@"))) == ["q1@0", "q1@1"]
    assert ids(listing.page(ListState(search="v3"))) == ["q3@0", "q3@1"]
    for hostile in ("%", "' OR true --", "\\", ".*", "(", "{{ 7*7 }}"):
        assert not listing.page(ListState(search=hostile)).fault
    assert listing.page(ListState(search="' OR true --")).total == 0


def test_rows_are_ordered_by_a_column_with_unknown_values_last(listing: Listing) -> None:
    rows = listing.page(ListState(sort="-evidence_gain")).rows
    gains = [row["evidence_gain"] for row in rows]
    assert gains[:3] == [0.25, 0.25, 0.0] and gains[3:] == [None] * 9
    assert listing.page(ListState(sort="evidence_gain")).rows[0]["evidence_gain"] == 0.0
    assert "cannot be ordered by" in listing.page(ListState(sort="1; DROP TABLE rows")).fault


def test_neighbours_are_those_of_the_list_that_one_came_from(listing: Listing) -> None:
    around = listing.around(ListState(), "q0@1")
    assert around and (around.place, around.total, around.before, around.after) == (2, 12, "q0@0", "q1@0")
    failed = listing.around(ListState(status="failed", search="hm"), "q3@0")
    assert failed and (failed.place, failed.total, failed.before, failed.after) == (1, 1, "", "")
    first = listing.around(ListState(sort="-evidence_gain"), "q3@1")
    assert first and (first.before, first.after) == ("q0@0", "q0@1")
    assert listing.around(ListState(status="failed"), "q0@0") is None
    assert listing.around(ListState(where="nonsense"), "q0@0") is None
    assert listing.around(ListState(), "unknown") is None


def test_pages_hold_every_row_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked = [question(n, "v") for n in range(3)]
    store = begin(str(tmp_path_factory.mktemp("many")), asked, attempts=40)
    made: list[Trajectory] = [trajectory(q, n, turns=GOOD, final="C") for q in asked for n in range(40)]
    commit(store, "caption", 0, [tree("v")])
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t) for t in made])
    listing = Listing(shared(store), Questions(store))
    pages = [listing.page(ListState(page=number)) for number in (1, 2, 3, 4)]
    assert [len(page.rows) for page in pages] == [PAGE_ROWS, PAGE_ROWS, 20, 0] and pages[0].pages == 3
    assert len({name for page in pages for name in ids(page)}) == 120
    around = listing.around(ListState(), ids(pages[1])[0])
    assert around and around.page == 2 and around.before == ids(pages[0])[-1]


def test_a_search_tells_what_it_found_so_far_and_comes_to_its_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked = [question(n, f"v{n}") for n in range(30)]
    store = begin(str(tmp_path_factory.mktemp("wide")), asked, attempts=1)
    for n, q in enumerate(asked):
        commit(store, "caption", n, [tree(q.video_id)])
        commit(store, "teach", n, [trajectory(q, 0, turns=(zoom_turn(f"needle {n}"),))])
    listing = Listing(shared(store), Questions(store))
    deadline = time.monotonic() + 30
    while not (listed := listing.page(ListState(search="needle"))).search or not listed.search.done:
        assert time.monotonic() < deadline
    assert listed.search.shards == listed.search.of_shards == 30 and not listed.search.fault
    assert listing.page(ListState(search="needle")).total == 30
    for n in range(12):  # more searches than are held
        assert listing.page(ListState(search=f"needle {n}")).total >= 1
    tables = {row["name"] for row in Rows(store).query("SELECT table_name AS name FROM duckdb_tables()")}
    assert not any(name.startswith("found") for name in tables), "a search's table is its page's own"


def test_many_threads_with_more_conditions_than_are_held_all_get_their_rows(
    listing: Listing,
) -> None:
    """What one thread has just made for itself, the others' conditions push out again."""
    states = [ListState(where=f"attempt >= 0 AND shard >= -{n}", preset=preset) for n in range(9) for preset in PRESETS]
    states += [ListState(search=text) for text in ("colour", "hm", "grün", "v1", "v2", "q1", "q2", "which", "a", "e")]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(listing.page, states * 2))
    assert not [listed.fault for listed in found if listed.fault]
    assert {listed.total for listed in found if listed.state.where} == {12}


def test_a_search_that_others_pushed_out_can_still_be_shown_and_then_leaves_no_table(tmp_path: Path) -> None:
    rows = shared(whole_run(str(tmp_path)))
    searches = Searches(rows, Questions(rows.store))
    first = searches.of("colour", 30)
    for n in range(12):
        searches.of(f"other {n}", 30)
    assert rows.query(f"SELECT count(*) AS n FROM rows WHERE {first.sql}") == [{"n": 12}]
    del first
    gc.collect()
    found = rows.query("SELECT count(*) AS n FROM duckdb_tables() WHERE table_name LIKE 'found_%'")
    assert found == [{"n": 6}], "as many as are held"


@pytest.mark.parametrize(
    "state",
    [
        ListState(),
        ListState(status="failed", outcome="a/b & c=d?", search="ü \"'<b>", where="a > 1 AND b = '%'", page=7),
        ListState(preset="videozoomer", sort="-cost_usd", question="q#1@0", video="x/y z.mp4", correct="yes"),
    ],
)
def test_every_state_has_an_address(state: ListState) -> None:
    from urllib.parse import parse_qsl

    assert ListState.of(dict(parse_qsl(state.query))) == state
    assert ListState().query == ""


def test_an_address_that_says_nonsense_is_read_as_far_as_it_goes() -> None:
    for page in ("-1", "0", "x", "1e9", "٣", "9" * 30):
        assert ListState.of({"page": page, "unknown": "x"}) == ListState()
