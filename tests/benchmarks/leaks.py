"""How well leaks are seen: by the rules, and by a judge where one is named.

`known` texts, `free` ones and those `planted` in the demo were in sight when the rules were made; `held out` ones and
those of `unseen` clauses were not. Run:

    python -m tests.benchmarks.leaks [--json FILE] [--base-url URL --model NAME [--calls FOLDER]]

Tells for each kind of leak how many are caught (recall), and how many honest texts are taken for one (false alarms).
Exit status 1 where the rules miss a bar: of planted leaks at least 95 % are caught, of those held out 80 %, and at most
2 % of the honest texts of any kind raise an alarm. Unseen clauses have no bar: they say what the rules make of words
that they do not know. With a server it asks one or two calls a text; its replies are kept in --calls.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.table import Table

from pipeline.demo.leaking import GOLD_PATTERNS, HINT_PATTERNS, leak
from pipeline.demo.questions import questions
from pipeline.demo.world import film
from pipeline.models.build import judge_model
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatModel
from pipeline.sources import jsonl_question
from pipeline.stages.judged_leaks import judged_leaks
from pipeline.stages.leaks import gold_leak, hint_leak
from prompts.protocols import protocol
from schemas.config import EndpointJudge
from schemas.question import Question
from schemas.trajectory import Trajectory
from tests.benchmarks import leak_held_out as held_out
from tests.benchmarks import leak_paraphrases as free
from tests.benchmarks.leak_clauses import unseen_leak
from tests.stages import leak_texts as known
from tests.stages.test_leaks import GENERIC_HINT, SEGMENT_HINT, SHOWN, asked, hinted

PLANTED_BAR, HELD_OUT_BAR, ALARM_BAR = 0.95, 0.8, 0.02

PLACES = ("(2)", "(2,1)", "(1), (2)", "(2,1,2)", "(2,1,2), (2,1,3)", "this video")
"""As hints name them, from the top level to the lowest."""

DRAWN = 1000
"""Texts of a kind that are put together from clauses."""

Pairs = list[tuple[str, Question]]
Lists = tuple[list[str], list[str], Pairs, Pairs]
"""Leaks and honest texts after a hint, then those before a look with their questions."""


@dataclass(frozen=True)
class Texts:
    """Attempts that hold one text each. column: that is looked at; leaks: whether the texts betray something."""

    name: str
    column: str
    leaks: bool
    attempts: list[Trajectory]


def texts() -> list[Texts]:
    """Written texts, each as an attempt."""
    known_lists: Lists = known.BETRAYS_THE_HINT, known.KEEPS_THE_HINT, known.BETRAYS_THE_GOLD, known.KEEPS_THE_GOLD
    kinds: list[Texts] = []
    for name, of in (("known", known_lists), ("free", _lists(free)), ("held out", _lists(held_out))):
        betray_hint, keep_hint, betray_gold, keep_gold = of
        kinds += [
            Texts(f"hint, {name}", "hint_leak", True, after_a_hint(betray_hint)),
            Texts(f"hint, {name}", "hint_leak", False, after_a_hint(keep_hint)),
            Texts(f"answer, {name}", "gold_leak", True, [asked(*pair) for pair in betray_gold]),
            Texts(f"answer, {name}", "gold_leak", False, [asked(*pair) for pair in keep_gold]),
        ]
    return kinds


def _lists(module: ModuleType) -> Lists:
    return module.BETRAY_A_HINT, module.KEEP_A_HINT, module.BETRAY_THE_GOLD, module.KEEP_THE_GOLD


def after_a_hint(thoughts: Sequence[str]) -> list[Trajectory]:
    return [hinted(thought, "It is green.", text=SEGMENT_HINT + GENERIC_HINT) for thought in thoughts]


def made_up() -> list[Texts]:
    """Leaks put together from clauses, about a hint at a segment and about the questions of demo films."""
    dice, about = random.Random(0), [jsonl_question(dict(row)) for seed in (500, 501) for row in questions(film(seed))]
    makers: dict[str, Callable[..., str]] = {"planted": leak, "unseen": unseen_leak}
    kinds: list[Texts] = []
    for name, made in makers.items():
        hints = [made(dice, HINT_PATTERNS, where=dice.choice(PLACES)) for _ in range(DRAWN)]
        asks = dice.choices(about, k=DRAWN)
        attempts = [asked(made(dice, GOLD_PATTERNS, **_named(question)), question) for question in asks]
        kinds.append(Texts(f"hint, {name}", "hint_leak", True, after_a_hint(hints)))
        kinds.append(Texts(f"answer, {name}", "gold_leak", True, attempts))
    return kinds


def _named(question: Question) -> dict[str, str]:
    return {"answer": question.answer_letter or question.answer_text, "text": question.answer_text}


def by_rules(kind: Texts) -> list[bool | None]:
    """What the rules find of each."""
    if kind.column == "hint_leak":
        return [hint_leak(attempt, SHOWN) for attempt in kind.attempts]
    return [gold_leak(attempt) for attempt in kind.attempts]


async def by_judge(kind: Texts, judge: ChatModel) -> list[bool | None]:
    """What the judge says of each; None where it did not."""
    named = [a.model_copy(update={"trajectory_id": f"{kind.name} {n}"}) for n, a in enumerate(kind.attempts)]
    found = await judged_leaks(named, judge, "benchmark")
    return [columns[f"judge_{kind.column}"] for columns in found]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.leaks")
    parser.add_argument("--base-url")
    parser.add_argument("--model")
    parser.add_argument("--calls", type=Path, help="a folder where the judge's replies are kept")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if bool(arguments.base_url) != bool(arguments.model):
        parser.error("--base-url and --model belong together")
    kinds = texts()
    with_made_up = [*kinds, *made_up()]
    figures = {"rules": _figures(with_made_up, [by_rules(kind) for kind in with_made_up])}
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.base_url:
            config = EndpointJudge(model=arguments.model, base_url=arguments.base_url)
            judge = judge_model(config, CallStore(str(arguments.calls or temporary)), protocol("videozoomer"))
            assert judge is not None
            figures["judge"] = _figures(kinds, [asyncio.run(by_judge(kind, judge)) for kind in kinds])
    for who, rows in figures.items():
        Console(width=120).print(_table(who, rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    missed = bars_missed(figures["rules"])
    print("\n".join(missed) or "every bar met")
    return 1 if missed else 0


def bars_missed(rows: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What falls short of its bar, in words."""
    missed = []
    for name, row in rows.items():
        bar = PLANTED_BAR if "planted" in name else HELD_OUT_BAR if "held out" in name else 0.0
        if row["caught"] < bar * row["leaks"]:
            missed.append(f"{name}: {row['caught']} of {row['leaks']} leaks caught, below {bar:.0%}")
        if row.get("alarms", 0) > ALARM_BAR * row.get("honest", 0):
            missed.append(f"{name}: {row['alarms']} of {row['honest']} honest texts alarm, over {ALARM_BAR:.0%}")
    return missed


def _table(who: str, rows: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("leak of", "leaks", "caught", "recall", "honest texts", "false alarms", "unsaid", title=f"by {who}")
    for name, row in rows.items():
        honest = (str(row["honest"]), str(row["alarms"])) if "honest" in row else ("-", "-")
        recall = f"{row['caught'] / row['leaks']:.0%}"
        table.add_row(name, str(row["leaks"]), str(row["caught"]), recall, *honest, str(row["unsaid"]))
    return table


def _figures(kinds: Sequence[Texts], found: Sequence[list[bool | None]]) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for kind, of_kind in zip(kinds, found, strict=True):
        row = rows.setdefault(kind.name, {"unsaid": 0})
        row |= {
            "leaks" if kind.leaks else "honest": len(of_kind),
            "caught" if kind.leaks else "alarms": of_kind.count(True),
        }
        row["unsaid"] += of_kind.count(None)
    return rows


if __name__ == "__main__":
    sys.exit(main())
