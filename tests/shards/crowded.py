"""A run with more of everything than a training set wants: attempts, questions, letters, and near-duplicates."""

from pipeline.store import RunStore
from schemas.question import Question
from schemas.trajectory import Trajectory
from tests.shards.runs import answer_turn, begin, commit, question, trajectory, tree, verdict, zoom_turn

VIDEOS, QUESTIONS, ATTEMPTS = 3, 4, 3

TEXTS = (
    "What falls off the shelf when the man walks by?",
    "What falls off the shelf when the man walks by??",
    "How many people stand at the bus stop?",
    "Which colour is the car that turns left?",
)
"""Of each video; the second one is the first again, with another mark at its end."""

THOUGHTS = (
    "Look at [2, 5], the shelf is there.",
    "look at [2, 5]: the shelf is there",
    "The aisle by the door, [2, 5].",
)
"""Of each question's attempts; the second one is the first again but for its marks."""


def asked(video: int, number: int) -> Question:
    """Question `number` of a video, whose reference letter is C, but A for the last one."""
    letter = "A" if number == QUESTIONS - 1 else "C"
    changes = {"text": TEXTS[number], "choices": ("rot", "grün", "青", "gelb"), "answer_letter": letter}
    return question(10 * video + number, f"v{video}").model_copy(update=changes)


def attempt(of: Question, number: int) -> Trajectory:
    """Right but for the last attempt at the third question of each video; its thought opens with a word of its own."""
    wrong = of.text == TEXTS[2] and number == ATTEMPTS - 1
    final = "B" if wrong else of.answer_letter
    think = f"{of.question_id} {of.text} {THOUGHTS[number]}"
    return trajectory(of, number, turns=(zoom_turn(think), answer_turn(final)), final=final)


def gain(trajectory_id: str) -> float | None:
    """The evidence gain of an attempt: the later, the higher; none of the last attempt at a video's first question."""
    name, number = trajectory_id[1:].split("@")
    return None if (int(name) % 10, int(number)) == (0, 2) else 0.125 * (int(number) + 1)


def crowded_run(url: str) -> RunStore:
    """A shard for each video; 36 attempts, of which 33 answered rightly."""
    of = [[asked(video, number) for number in range(QUESTIONS)] for video in range(VIDEOS)]
    store = begin(url, [item for items in of for item in items], ATTEMPTS)
    for shard, items in enumerate(of):
        made = [attempt(item, number) for item in items for number in range(ATTEMPTS)]
        judged = [
            verdict(
                t,
                answer_correct=t.final_answer == t.question.answer_letter,
                evidence_gain=gain(t.trajectory_id),
                n_zooms=1,
            )
            for t in made
        ]
        commit(store, "caption", shard, [tree(f"v{shard}")])
        commit(store, "teach", shard, made)
        commit(store, "replay", shard, judged)
    return store
