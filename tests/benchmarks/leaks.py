"""How well leaks are seen: by the rules, and by a judge where one is named.

`known` texts are those that the rules were made with; `free` ones say the like in other words, and were held out. Run:

    python -m tests.benchmarks.leaks [--json FILE] [--base-url URL --model NAME [--calls FOLDER]]

Tells for each kind of leak how many are caught (recall), and how many honest texts are taken for one (false alarms).
With a server it asks one or two calls a text; its replies are kept in --calls.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.models.build import judge_model
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatModel
from pipeline.stages.judged_leaks import judged_leaks
from pipeline.stages.leaks import gold_leak, hint_leak
from prompts.protocols import protocol
from schemas.config import EndpointJudge
from schemas.trajectory import Trajectory
from tests.benchmarks import leak_paraphrases as free
from tests.stages import leak_texts as known
from tests.stages.test_leaks import GENERIC_HINT, SEGMENT_HINT, SHOWN, asked, hinted


@dataclass(frozen=True)
class Texts:
    """Attempts that hold one text each. column: that is looked at; leaks: whether the texts betray something."""

    name: str
    column: str
    leaks: bool
    attempts: list[Trajectory]


def texts() -> list[Texts]:
    """All texts, each as an attempt."""

    def after_a_hint(thoughts: Sequence[str]) -> list[Trajectory]:
        return [hinted(thought, "It is green.", text=SEGMENT_HINT + GENERIC_HINT) for thought in thoughts]

    return [
        Texts("hint, known", "hint_leak", True, after_a_hint(known.BETRAYS_THE_HINT)),
        Texts("hint, known", "hint_leak", False, after_a_hint(known.KEEPS_THE_HINT)),
        Texts("hint, free", "hint_leak", True, after_a_hint(free.BETRAY_A_HINT)),
        Texts("hint, free", "hint_leak", False, after_a_hint(free.KEEP_A_HINT)),
        Texts("answer, known", "gold_leak", True, [asked(*pair) for pair in known.BETRAYS_THE_GOLD]),
        Texts("answer, known", "gold_leak", False, [asked(*pair) for pair in known.KEEPS_THE_GOLD]),
        Texts("answer, free", "gold_leak", True, [asked(*pair) for pair in free.BETRAY_THE_GOLD]),
        Texts("answer, free", "gold_leak", False, [asked(*pair) for pair in free.KEEP_THE_GOLD]),
    ]


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
    found = {"rules": [by_rules(kind) for kind in kinds]}
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.base_url:
            config = EndpointJudge(model=arguments.model, base_url=arguments.base_url)
            judge = judge_model(config, CallStore(str(arguments.calls or temporary)), protocol("videozoomer"))
            assert judge is not None
            found["judge"] = [asyncio.run(by_judge(kind, judge)) for kind in kinds]
    figures = {who: _figures(kinds, of_kinds) for who, of_kinds in found.items()}
    for who, rows in figures.items():
        table = Table(
            "leak of", "leaks", "caught", "recall", "honest texts", "false alarms", "unsaid", title=f"by {who}"
        )
        for name, row in rows.items():
            shares = f"{row['caught'] / row['leaks']:.0%}", str(row["honest"]), str(row["alarms"]), str(row["unsaid"])
            table.add_row(name, str(row["leaks"]), str(row["caught"]), *shares)
        Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


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
