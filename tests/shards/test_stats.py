"""The funnel, its conservation, and what `zoomtrail stats` prints."""

import json
import re
from pathlib import Path

import pytest

from jobs.presets import preset, preset_names
from jobs.stats import stats
from pipeline.shards.condition import where
from pipeline.shards.funnel import LEVELS, STATUSES, funnel
from pipeline.shards.stats import collect
from pipeline.shards.table import Rows
from pipeline.store import RunStore
from schemas.captions import Usage
from schemas.errors import Failure, UserError
from tests.shards.cutting import cut
from tests.shards.runs import GOOD, begin, commit, question, trajectory, tree, verdict


def test_every_attempt_is_kept_or_lost_once_for_its_first_reason(rows: Rows) -> None:
    found = funnel(rows, preset("default"))
    assert found.planned == 12
    assert found.reached == {"captioned": 6, "answered": 3, "verified": 3, "kept": 1}
    assert {(loss.level, loss.reason): loss.rows for loss in found.losses} == {
        ("captioned", "caption/video_truncated"): 2,
        ("captioned", "source/bad_row"): 2,
        ("captioned", "not yet captioned"): 2,
        ("answered", "gave_up"): 1,
        ("answered", "malformed"): 1,
        ("answered", "teach/content_filter"): 1,
        ("kept", "wrong answer"): 1,
        ("kept", "no evidence gain"): 1,
    }
    assert found.statuses == {"answered": 3, "gave_up": 1, "malformed": 1, "failed": 5, "not_run": 2}


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("restriction", [None, "attempt = 0", "status = 'failed'", "false", "n_zooms > 0"])
def test_conservation_holds_for_every_preset_and_restriction(rows: Rows, name: str, restriction: str | None) -> None:
    found = funnel(rows, preset(name), restriction)
    assert sum(found.statuses.values()) == found.planned == found.kept + sum(loss.rows for loss in found.losses)
    counts = [found.planned, *(found.reached[level] for level in LEVELS)]
    assert counts == sorted(counts, reverse=True)


def test_what_is_kept_without_an_answer_or_a_verdict_reached_neither(rows: Rows, store: RunStore) -> None:
    found = funnel(rows, where("rolled_out"))
    assert found.reached == {"captioned": 6, "answered": 3, "verified": 3, "kept": 10}
    assert found.spared == {"captioned": 4, "answered": 3}
    assert (found.planned, sum(loss.rows for loss in found.losses)) == (12, 2)
    (unseen,) = collect(rows, where("rolled_out"), "status = 'gave_up'").groups["protocol"]
    assert unseen.reached == {"captioned": 1, "answered": 0, "verified": 0, "kept": 1}
    cut(store.url, "all", None, "rolled_out", "sft", thinning={"per_question": 1})
    told = json.loads(store.storage.read("cuts/all/lineage.json"))
    assert (told["reached"]["answered"], told["spared"]) == (3, {"answered": 2})
    assert "2 met the condition without an answer." in store.storage.read("cuts/all/README.md").decode()


def test_presets_keep_what_they_say(rows: Rows) -> None:
    kept = {name: funnel(rows, preset(name)).kept for name in preset_names()}
    published = {"longvideo_r1", "love_r1", "videozoomer", "framethinker", "timesearch_r", "longvt"}
    assert kept == {**dict.fromkeys(published, 2), "framethinker": 0, "default": 1, "mechanical": 2, "strict": 0}
    with pytest.raises(
        UserError, match="default, framethinker, longvideo_r1, longvt, love_r1, mechanical, strict, time"
    ):
        preset("defualt")
    assert {name for name in preset_names() if preset(name).source} == published


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"well_formed": False}, "not well-formed"),
        ({"in_bounds": False}, "out of bounds"),
        ({"consistent": False}, "inconsistent"),
        ({"observations_match": False}, "observations differ"),
        ({"answer_correct": None}, "answer not judged"),
        ({"answer_correct": False}, "wrong answer"),
        ({"n_zooms": 0}, "no zoom"),
        ({"zooms_mentioned": 0.5}, "zoom not mentioned"),
        ({"zooms_mentioned": 1.0, "hint_leak": False}, ""),
        ({"hint_leak": True}, "hint leak"),
        ({"gold_leak": True}, "gold leak"),
        ({"redundant_zooms": 1}, "redundant zooms"),
        ({"grounding_recall": 0.0}, "clue missed"),
        ({"p_gold_blind": 0.9, "p_gold_overview": 0.9}, "answerable without the video"),
        ({"p_gold_overview": 0.7}, "no zoom needed"),
        ({"claims_supported": 0.5}, "unsupported claim"),
        ({"claims_supported": None, "n_claims": 0}, ""),
        ({"p_gold_evidence": 0.4}, "weak evidence"),
        ({"evidence_gain": 0.0}, "no evidence gain"),
        ({"p_gold_evidence": None, "evidence_gain": None, "consistent": True}, ""),
    ],
)
def test_each_clause_drops_by_its_own_name(tmp_path: Path, found: dict[str, object], reason: str) -> None:
    """An unmeasured value fails its clause, unless the clause says otherwise, as for a verifier that was not there."""
    asked = question(0, "v0")
    store = begin(str(tmp_path), [asked], attempts=1)
    made = trajectory(asked, 0, turns=GOOD, final="C")
    commit(store, "caption", 0, [tree("v0")])
    commit(store, "teach", 0, [made])
    commit(store, "replay", 0, [verdict(made, **found)])
    losses = funnel(Rows(store), preset("default")).losses
    assert [loss.reason for loss in losses] == ([reason] if reason else [])


def test_an_unfinished_run_says_what_is_still_to_do(tmp_path: Path) -> None:
    asked = [question(n, f"v{n}") for n in range(4)]
    store = begin(str(tmp_path), asked, attempts=1)
    made = [trajectory(q, 0, turns=GOOD, final="C") for q in asked]
    for shard in range(1, 4):
        commit(store, "caption", shard, [tree(f"v{shard}")])
    for shard in range(2, 4):
        commit(store, "teach", shard, [made[shard]])
    broken = Failure(stage="replay", kind="video_changed", message="v3 is another file now")
    commit(store, "replay", 3, [verdict(made[3], broken)])
    losses = {(loss.level, loss.reason): loss.rows for loss in funnel(Rows(store), preset("default")).losses}
    assert losses == {
        ("captioned", "not yet captioned"): 1,
        ("answered", "not yet rolled out"): 1,
        ("verified", "not yet verified"): 1,
        ("verified", "replay/video_changed"): 1,
    }


def test_an_unknown_price_is_never_shown_as_nothing(rows: Rows) -> None:
    everything = collect(rows, preset("default"))
    teach = everything.spent["teach"]
    assert (teach.calls, teach.prompt_tokens, teach.cost_usd, teach.rows_without_price) == (12, 600, None, 1)
    assert teach.known_usd == 1.25
    priced = collect(rows, preset("default"), "cost_usd IS NOT NULL AND calls > 0").spent["teach"]
    assert (priced.calls, priced.cost_usd, priced.rows_without_price) == (10, 1.25, 0)


def test_captions_of_a_video_are_counted_once(tmp_path: Path) -> None:
    from pipeline.plan import Plan

    asked = question(0, "v0")
    store = begin(str(tmp_path), [asked], attempts=1)
    Plan(store).extend([asked], attempts=2, videos_per_shard=1)
    for shard in range(2):
        commit(store, "caption", shard, [tree("v0", usage=Usage(calls=5, prompt_tokens=50, cost_usd=0.5))])
    found = collect(Rows(store), preset("default"))
    assert (found.spent["caption"].calls, found.spent["caption"].cost_usd, found.videos) == (5, 0.5, 1)


def test_means_are_of_what_was_measured(rows: Rows) -> None:
    means = collect(rows, preset("default")).means
    assert (means["answer_correct"]["verified"].mean, means["answer_correct"]["verified"].rows) == (2 / 3, 3)
    assert means["p_gold_evidence"]["kept"].mean == 0.75
    assert (means["p_gold_zooms_only"]["kept"].mean, means["p_gold_zooms_only"]["kept"].rows) == (None, 0)


def test_json_has_stable_names_and_is_strict(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    stats(store.url, None, True)
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert list(found) == (
        [
            "run",
            "where",
            "preset",
            "condition",
            "fingerprints",
            "funnel",
            "statuses",
            "totals",
            "spent",
            "means",
            "distributions",
            "groups",
            "by",
            "per_shard",
            "shards",
            "agreement",
            "compare",
        ]
    )
    assert [level["level"] for level in found["funnel"]] == ["planned", *LEVELS]
    assert tuple(found["statuses"]) == STATUSES
    assert found["totals"] == {
        "attempts": 12,
        "videos": 5,
        "questions": 6,
        "questions_kept": 1,
        "verifier_tokens": 80,
        "replay_usd": 0.0,
        "usd_per_kept": None,
    }
    assert found["spent"]["teach"]["cost_usd"] is None
    first = found["shards"][0]
    assert (first["stage"], first["shard"], first["rows"], first["seconds"]) == ("caption", 0, 1, 1.5)
    assert first["bytes"] == Path(store.storage.path("captions/shard-00000.parquet")).stat().st_size


def test_piped_output_is_plain_text_on_whole_lines(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    stats(store.url, None, False)
    text = capsys.readouterr().out
    assert "\x1b" not in text and "│" not in text and "─" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    lines = [line.split() for line in text.splitlines()]
    assert ["planned", "12"] in lines and ["kept", "1", "8.3", "%"] in lines
    assert "12 planned = 3 answered + 1 gave_up + 1 malformed + 5 failed + 2 not_run" in text
    assert "unknown, at least 1.2500 (1 row unpriced)" in text
    assert re.search(r"verifier busy for [\d.]+ s, 90.0 % of its time; 0\.\d s it waited for pictures", text)
    assert "[red]" in text  # a model's words are shown as they are, not as markup


def test_where_restricts_what_is_looked_at(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    stats(store.url, "attempt = 0", True)
    found = json.loads(capsys.readouterr().out)
    assert (found["where"], found["totals"]["attempts"]) == ("attempt = 0", 6)
    stats(store.url, "false", False)
    assert "0 planned" in capsys.readouterr().out


def test_a_reason_may_hold_a_quote(rows: Rows) -> None:
    condition = where("n_zooms > 9").plus(*where("true").clauses)
    assert funnel(rows, condition).kept == 0
    with pytest.raises(UserError, match="no column"):
        funnel(rows, where("nonsense"))
