"""Near-duplicates: questions and thoughts on one video that say nearly the same, compared exactly, pair by pair."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.shards.table import Rows

What = Literal["question", "thoughts"]

_READ = {
    "question": ("trajectory_id", "question.text", "question.choices"),
    "thoughts": ("trajectory_id", "turns.list.element.think"),
}


@dataclass(frozen=True)
class Text:
    """key: whose text it is, a question's or an attempt's."""

    key: str
    text: str


def near_duplicates(texts: Sequence[Text], likeness: float) -> list[str]:
    """The keys of texts that are at least so alike, in 0..1, as one that comes before them and stays.

    Likeness is 1 - insertions and deletions that turn one text into the other / characters of both, of the texts in
    lower case, as words of letters and digits of any script; texts without any are alike to none.
    """
    from rapidfuzz.distance import Indel
    from rapidfuzz.utils import default_process

    staying: list[str] = []
    found = list[str]()
    for item in texts:
        text = " ".join(default_process(item.text).split())
        if any(Indel.normalized_similarity(text, other, score_cutoff=likeness) >= likeness for other in staying):
            found.append(item.key)
        elif text:
            staying.append(text)
    return found


def alike(rows: Rows, what: What, likeness: float) -> list[str]:
    """Of the candidates not lost yet, the questions or the attempts that near-duplicate another of their video.

    Questions stay by their ids, attempts by their place among their question's, then by their ids.
    """
    found = list[str]()
    for texts in _by_video(rows, what):
        found += near_duplicates(texts, likeness)
    return found


def _by_video(rows: Rows, what: What) -> Iterator[list[Text]]:
    """The texts of one video after the other. A video's are held until the last shard that has some was read."""
    waiting: dict[str, dict[tuple[int, str], Text]] = defaultdict(dict)
    last = rows.query("SELECT video_id, max(shard) AS shard FROM candidates WHERE lost IS NULL GROUP BY 1")
    ends: dict[int, list[str]] = defaultdict(list)
    for row in last:
        ends[row["shard"]].append(row["video_id"])
    for shard in [row["shard"] for row in rows.query("SELECT DISTINCT shard FROM candidates ORDER BY 1")]:
        wanted = rows.query(
            "SELECT trajectory_id, question_id, video_id, place FROM candidates "
            f"WHERE lost IS NULL AND shard = {int(shard)}"
        )
        by_id = {row["trajectory_id"]: row for row in wanted}
        for name, text in _texts(rows, what, shard):
            if name in by_id:
                of = by_id[name]
                key = of["question_id"] if what == "question" else name
                place = 0 if what == "question" else of["place"]
                waiting[of["video_id"]][place, key] = Text(key, text)
        for video in sorted(ends[shard]):
            yield [text for _, text in sorted(waiting.pop(video).items())]


def _texts(rows: Rows, what: What, shard: int) -> Iterable[tuple[str, str]]:
    table = rows.store.table("teach", shard, list(_READ[what]))
    for row in table.to_pylist():
        if what == "question":
            yield row["trajectory_id"], "\n".join((row["question"]["text"], *row["question"]["choices"]))
        else:
            yield row["trajectory_id"], "\n".join(turn["think"] for turn in row["turns"])
