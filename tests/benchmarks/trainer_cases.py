"""What the trainers are given to read, and what they should make of it, by our own rows of the same run."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.shards.formats.layout import Kind, Media
from pipeline.store import RunStore
from tests.shards.cutting import made
from tests.shards.films import film_run
from tests.shards.published import published_run
from tests.shards.runs import walk_run

Learns = Literal["each", "whole", "turns", "prompt"]
"""A record is a conversation with a mask, one that is learned whole, a learned turn, or a prompt."""

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
END = "<|im_end|>\n"
"""What ends a turn in ChatML. All three trainers learn it with the turn."""

GIVEN = ("question_id", "choices", "clue_intervals")
MEASURED = ("turn", "action", "p_before", "p_after", "evidence_gain")


@dataclass(frozen=True)
class Case:
    """A cut and its reader. run: the protocol of the run that is cut; media: None for the format's way."""

    trainer: str
    format: str
    kind: Kind
    run: str
    learns: Learns
    media: Media | None = None

    @property
    def cut(self) -> str:
        return f"{self.format}-{self.kind}"

    @property
    def vision(self) -> bool:
        return self.run != "longvideo_r1"


@dataclass(frozen=True)
class Wanted:
    """What a trainer should make of a row: the text, the turns with labels, the pictures, what a reward is given.

    pictures: their files, as the teacher was shown them, in order.
    """

    text: str
    learned: list[str]
    pictures: list[str]
    columns: dict[str, Any]


WITH_PICTURES = ("videozoomer", "longvt")
RUNS = (*WITH_PICTURES, "timesearch_r", "longvideo_r1")


def cases() -> list[Case]:
    """All that is read: every kind of every trainer's own format, for runs of all shapes that it can hold."""
    text: tuple[Case, ...] = tuple(
        Case("trl", name, kind, "longvideo_r1", learns, "reference") for name, kind, learns in _TRL
    )
    return [
        *(Case("llamafactory", "llamafactory", "sft", run, "whole") for run in RUNS),
        *(Case("llamafactory", "llamafactory-alpaca", "sft", r, "turns") for r in (*WITH_PICTURES, "longvideo_r1")),
        Case("llamafactory", "videozoomer", "sft", "videozoomer", "whole"),
        Case("llamafactory", "longvideo_r1", "sft", "longvideo_r1", "turns"),
        *(Case("ms-swift", "ms-swift", "sft", run, "each") for run in RUNS),
        *(Case("ms-swift", "ms-swift", "rl", run, "prompt") for run in RUNS),
        *(Case("trl", name, kind, run, learns) for name, kind, learns in _TRL for run in WITH_PICTURES),
        *text,
        *(Case("verl", "verl", "rl", run, "prompt") for run in RUNS),
        *(Case("verl", "verl", "rl-steps", run, "prompt") for run in (*WITH_PICTURES, "longvideo_r1")),
    ]


_TRL: tuple[tuple[str, Kind, Learns], ...] = (
    ("trl", "sft", "whole"),
    ("trl-steps", "sft", "turns"),
    ("trl", "rl", "prompt"),
)


def make_runs(folder: Path) -> dict[str, RunStore]:
    """A run of each protocol, over rendered films; one with captions only."""
    homes = {name: folder / name for name in RUNS}
    for home in homes.values():
        home.mkdir()
    return {
        "videozoomer": film_run(homes["videozoomer"]),
        "longvideo_r1": walk_run(str(homes["longvideo_r1"] / "run")),
        **{name: published_run(homes[name], name) for name in ("longvt", "timesearch_r")},
    }


def task(case: Case, store: RunStore) -> dict[str, Any]:
    """Cuts the run, and says to a child what to read."""
    _rows(store, case.cut, case.kind, format=case.format, media=case.media)
    folder = store.storage.path(f"cuts/{case.cut}")
    shown = [row.pictures for row in wanted(case, store)]
    more = {"name": f"{case.cut} {case.run}", "folder": folder, "cut": case.cut, "vision": case.vision, "shown": shown}
    return asdict(case) | more | {"last_turn": case.learns == "turns"}


def wanted(case: Case, store: RunStore) -> list[Wanted]:
    """From `native` rows of the same kind, which hold what the renderer says, the mask, and the pictures."""
    rows = _rows(store, f"native-{case.kind}", case.kind, format="native", media="embedded")
    for row in rows:
        row["files"] = [_kept(store, image) for image in row["images"]]
    return [one for row in rows for one in (_prompt(case, row) if case.learns == "prompt" else _learned(case, row))]


def _rows(store: RunStore, name: str, kind: Kind, **export: Any) -> list[dict[str, Any]]:
    with contextlib.redirect_stdout(io.StringIO()):
        return made(store, name, kind, **export)


def _kept(store: RunStore, image: dict[str, Any]) -> str:
    path = Path(store.storage.path("shown")) / image["path"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(image["bytes"])
    return str(path)


def _learned(case: Case, row: dict[str, Any]) -> Iterator[Wanted]:
    messages = row["messages"]
    learned = [n for n, message in enumerate(messages) if message["train"]]
    if case.learns == "turns":
        for last in learned:
            yield _wanted(case, row, last + 1, [last])
        return
    shown = messages[: learned[-1] + 1]
    if case.learns == "each" or all(m["train"] for m in shown if m["role"] == "assistant"):
        yield _wanted(case, row, len(shown), learned)


def _wanted(case: Case, row: dict[str, Any], length: int, learned: Sequence[int]) -> Wanted:
    messages = row["messages"][:length]
    turns = [messages[n]["content"] + END for n in learned]
    pictures = row["files"][: sum(m["content"].count("<image>") for m in messages)]
    return Wanted(_chat(case, messages), turns, pictures, {})


def _prompt(case: Case, row: dict[str, Any]) -> Iterator[Wanted]:
    given = {name: row[name] for name in GIVEN[1:]} | {GIVEN[0]: row["provenance"][GIVEN[0]]}
    if case.trainer == "verl":
        measured = {name: row[name] for name in MEASURED if name in row}
        reward = {"style": "rule", "ground_truth": row["ground_truth"]}
        values: dict[str, Any] = {"reward_model": reward, "extra_info": given | measured}
    else:
        values = given | {"solution" if case.trainer == "ms-swift" else "ground_truth": row["ground_truth"]}
    yield Wanted(_chat(case, row["prompt"]) + "<|im_start|>assistant\n", [], row["files"], values)


def _chat(case: Case, messages: Sequence[dict[str, Any]]) -> str:
    """ChatML, as each of the trainers' templates for Qwen writes it; a tool speaks within the user's turn."""
    written = ""
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "tool":
            role, content = "user", f"<tool_response>\n{content}\n</tool_response>"
        written += f"<|im_start|>{role}\n{content.replace('<image>', PICTURE)}{END}"
    return written
