"""What `zoomtrail stats` shows beyond the funnel: groups, spreads, the worst shards, two runs side by side."""

import io
import json
import math
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from jobs import stats_tables
from jobs.presets import preset
from jobs.stats import stats
from jobs.tables import print_table
from pipeline.shards.distributions import BINS, QUANTILES, distributions
from pipeline.shards.funnel import LEVELS
from pipeline.shards.stats import collect
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.errors import UserError
from tests.shards.runs import GOOD, begin, commit, question, trajectory, tree, verdict


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_groups_add_up_to_the_funnel(rows: Rows) -> None:
    found = collect(rows, preset("default"))
    for name, groups in found.groups.items():
        assert sum(group.planned for group in groups) == found.funnel.planned, name
        for level in LEVELS:
            assert sum(group.reached[level] for group in groups) == found.funnel.reached[level], name
    first, second = found.groups["attempt"]
    assert (first.value, first.planned, first.kept, second.kept) == ("0", 6, 1, 0)
    assert [group.value for group in found.groups["protocol"]] == ["videozoomer", None]
    assert found.groups["protocol"][0].lost_most_rows == 2


def test_by_groups_by_any_documented_column(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    stats(store.url, None, False, by="STATUS")
    shown = lines(capsys.readouterr().out)
    assert ["By", "status"] in shown
    assert next(line for line in shown if line[:1] == ["answered"] and len(line) > 5)[1:6] == [
        "3",
        "3",
        "3",
        "1",
        "33.3",
    ]
    for column, values in (("verified", {"false", "true"}), ("p_gold_steps", {"[0.5, 0.75]", None})):
        stats(store.url, None, True, by=column)
        found = json.loads(capsys.readouterr().out)["by"]
        assert (found["column"], {group["value"] for group in found["groups"]}) == (column, values)
    for wrong in ("well_fromed", "loss", "count(*)", "1; DROP TABLE rows"):
        with pytest.raises(UserError, match="there is no column") as refused:
            stats(store.url, None, False, by=wrong)
        assert "\n" not in str(refused.value)


def numbered(url: str, values: list[float | None]) -> Rows:
    """A run with one kept attempt for each value of evidence_gain."""
    asked = question(0, "v0")
    store = begin(url, [asked], attempts=len(values))
    made = [trajectory(asked, n, turns=GOOD, final="C") for n in range(len(values))]
    commit(store, "caption", 0, [tree("v0")])
    commit(store, "teach", 0, made)
    commit(store, "replay", 0, [verdict(t, evidence_gain=v) for t, v in zip(made, values, strict=True)])
    return Rows(store)


def test_a_column_of_many_numbers_is_grouped_by_ranges(tmp_path: Path) -> None:
    rows = numbered(str(tmp_path), [None, *(n / 100 for n in range(100))])
    column, groups = collect(rows, preset("default"), by="evidence_gain").by or ("", [])
    assert column == "evidence_gain"
    assert [group.planned for group in groups] == [*([10] * 10), 1]
    assert (groups[0].value, groups[9].value, groups[10].value) == ("0 to 0.09", "0.9 to 0.99", None)


@pytest.mark.parametrize(
    ("values", "finite", "not_finite", "bins", "median"),
    [
        ([], 0, 0, (), None),
        ([None, None], 0, 0, (), None),
        ([0.5], 1, 0, (1,), 0.5),
        ([0.5, 0.5, None], 2, 0, (2,), 0.5),
        ([math.inf, -math.inf, math.nan], 0, 3, (), None),
        ([math.nan, 1.0, math.inf, 3.0], 2, 2, (1, 0, 1), 2.0),
        ([0, 1, 1, 4], 4, 0, (1, 2, 0, 0, 1), 1.0),
        ([-1.7e308, 1.7e308], 2, 0, (1, *[0] * (BINS - 2), 1), 0.0),
        ([-0.0, 1e-320], 2, 0, (1, *[0] * (BINS - 2), 1), 5e-321),
    ],
)
def test_spreads_hold_at_their_edges(
    rows: Rows, values: list[float | None], finite: int, not_finite: int, bins: tuple[int, ...], median: float | None
) -> None:
    listed = ", ".join("NULL" if v is None else f"'{v!r}'::DOUBLE" for v in values)
    table = f"(SELECT unnest([{listed}]::DOUBLE[]) AS v)"
    found = distributions(rows, table, {"v": "v"})["v"]
    assert (found.rows, found.not_finite, found.bins) == (finite, not_finite, bins)
    assert found.quantiles["p50"] == (None if median is None else pytest.approx(median, abs=1e-300))
    assert sum(found.bins) == found.rows and list(found.quantiles) == list(QUANTILES)
    assert all(value is None or math.isfinite(value) for value in (*found.quantiles.values(), found.mean))
    drawn = stats_tables.histogram(found)
    assert drawn.count("|") == (2 if bins else 0)


def test_an_outlier_does_not_empty_a_histogram(rows: Rows) -> None:
    table = "(SELECT CASE WHEN range = 0 THEN 1e9 ELSE range % 100 END AS v FROM range(1000))"
    found = distributions(rows, table, {"v": "v"})["v"]
    assert found.quantiles["max"] == 1e9 and found.high is not None and found.high < 100
    assert all(50 < rows_in_bin < 120 for rows_in_bin in found.bins)


def test_zooms_are_measured_in_seconds_and_as_shares_of_the_video(rows: Rows) -> None:
    spread = collect(rows, preset("default")).spread
    assert spread["zoom_seconds"].rows == 3 and spread["zoom_seconds"].mean == 3.0
    assert spread["zoom_share"].mean == 3.0 / 64 and spread["zoom_position"].mean == 3.5 / 64


def test_what_is_no_finite_number_is_unknown_and_json_stays_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = numbered(str(tmp_path), [0.25, math.inf, math.nan])
    stats(rows.store.url, None, True)
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert found["means"]["evidence_gain"]["verified"] == {"mean": 0.25, "rows": 1}
    assert found["distributions"]["evidence_gain"]["rows"] == 1


def test_the_worst_shards_stand_first(rows: Rows) -> None:
    found = collect(rows, preset("default")).per_shard
    assert [row["shard"] for row in found] == [2, 4, 3, 1, 5, 0]
    first, last = found[0], found[-1]
    assert (first["planned"], first["kept"], first["failed"], first["seconds"]) == (2, 0, 2, 4.5)
    assert (last["kept"], last["failed"]) == (1, 0)
    files = [file for file in rows.files if file.shard == 2]
    assert first["bytes"] == sum(file.size for file in files)


def test_many_shards_are_cut_short_for_people_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [question(n, f"v{n}") for n in range(12)]
    store = begin(str(tmp_path), asked, attempts=1)
    for shard, one in enumerate(asked):
        made = trajectory(one, 0, turns=GOOD, final="C")
        commit(store, "caption", shard, [tree(one.video_id)])
        commit(store, "teach", shard, [made])
        commit(store, "replay", shard, [verdict(made)])
    stats(store.url, None, False)
    text = " ".join(capsys.readouterr().out.split())
    assert "10 of 12" in text and "most failures: none; slowest: 0 (4.5 s), 1 (4.5 s), 2 (4.5 s)" in text
    stats(store.url, None, True)
    assert len(json.loads(capsys.readouterr().out)["per_shard"]) == 12


def test_dollars_per_kept_row_are_of_all_calls(rows: Rows) -> None:
    everything = collect(rows, preset("default"))
    assert everything.usd_per_kept is None  # one price is unknown
    priced = collect(rows, preset("default"), "shard = 0")
    assert (priced.usd_per_kept, priced.groups["attempt"][0].known_usd) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("role", "price", "expected"),
    [
        ("verifier", None, None),
        ("judge", {"input": 1.0, "output": 2.0}, None),
        ("judge", {"input": 0, "output": 0}, 0.5),
    ],
)
def test_what_a_paid_verifier_or_judge_costs_is_not_taken_for_nothing(
    store: RunStore, role: str, price: object, expected: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    paid = {"backend": "endpoint", "model": "m", "base_url": "http://127.0.0.1:1/v1", "price": price}
    path = Path(store.storage.path("run.yaml"))
    run = yaml.safe_load(path.read_text())
    run["config"][role] = paid
    path.write_text(yaml.safe_dump(run))
    found = collect(Rows(store), preset("default"), "shard = 0")
    assert (found.usd_per_kept, found.replay_usd) == (expected, None if expected is None else 0.0)
    stats(store.url, "shard = 0", False)
    said = " ".join(capsys.readouterr().out.split())
    assert ("what replay cost `zoomtrail calls` tells" in said) == (expected is None)


def test_two_runs_stand_side_by_side(store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = numbered(str(tmp_path / "second"), [0.25, 0.5, None, -1.0]).store.url
    stats(store.url, None, False, compare=second)
    text = capsys.readouterr().out
    assert text.splitlines()[1].startswith(second) and "\x1b" not in text
    assert ["kept", "1", "8.3", "%", "3", "75.0", "%", "+66.7"] in lines(text)
    assert ["gave_up", "-1", "8.3", "%", "0", "0.0", "%", "-8.3"] in lines(text)
    stats(store.url, "attempt = 0", False, by="attempt", compare=second)
    assert ["0", "6", "16.7", "%", "unknown", "1", "100.0", "%", "0.2500"] in lines(capsys.readouterr().out)
    stats(store.url, None, True, compare=second)
    found = json.loads(capsys.readouterr().out)
    assert (found["totals"]["attempts"], found["compare"]["totals"]["attempts"]) == (12, 4)
    with pytest.raises(UserError, match="not a run directory"):
        stats(store.url, None, False, compare=str(tmp_path / "nothing"))


def test_a_run_without_attempts_has_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = begin(str(tmp_path), [], attempts=1)
    stats(store.url, None, False, by="status")
    stats(store.url, None, False)
    assert "0 planned = 0 answered" in capsys.readouterr().out
    stats(store.url, None, True, compare=store.url)
    assert json.loads(capsys.readouterr().out)["per_shard"] == []


def test_a_models_words_cannot_steer_a_terminal(rows: Rows) -> None:
    found = collect(rows, preset("default"), by="error_message")
    console = Console(file=io.StringIO(), force_terminal=True, width=200, highlight=False)
    for table in (stats_tables.funnel(found), stats_tables.groups(*(found.by or ("", [])))):
        print_table(console, table, plain=False)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "<script>alert(1)</script>" in shown and "[red]" in shown
    assert "\x1b[31m" not in shown and "\x1b[1m" in shown  # rich's own bold, and no colour of the model's
