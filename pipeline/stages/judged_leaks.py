"""Whether a text betrays a hint or the reference answer, as a judge sees it: beside the rules of `leaks`, which know
English wordings only."""

from collections.abc import Sequence
from typing import Any

from pipeline.models.chat import ChatModel
from pipeline.stages.judge import Chat, judgements
from pipeline.stages.leaks import before_looking, first_told, visible
from prompts.leak_judge import gold_leak_messages, hint_leak_messages
from schemas.trajectory import Trajectory

_COLUMNS = ("judge_hint_leak", "judge_gold_leak")


async def judged_leaks(trajectories: Sequence[Trajectory], judge: ChatModel, stage: str) -> list[dict[str, Any]]:
    """Columns of each trajectory's verdict; none of one that did not answer, as it is not kept. Raises Fatal as
    `judgements` does."""
    chats: dict[tuple[str, str], Chat] = {}
    for trajectory in trajectories:
        if trajectory.status == "answered":
            chats |= {(trajectory.trajectory_id, column): chat for column, chat in _chats(trajectory).items()}
    found = await judgements(judge, chats, stage)
    return [
        {column: found[key].yes for column in _COLUMNS if (key := (trajectory.trajectory_id, column)) in found}
        for trajectory in trajectories
    ]


def _chats(trajectory: Trajectory) -> dict[str, Chat]:
    """By column, what the judge is asked."""
    written = [visible(turn) for turn in trajectory.turns]
    before = list(before_looking(trajectory))
    chats = {"judge_gold_leak": gold_leak_messages(trajectory.question, before, written[len(before) :])}
    told = first_told(trajectory)
    if told is not None:
        hints = [hint.text for hint in trajectory.hints] or ["Your answer was wrong. Find out why, and correct it."]
        chats["judge_hint_leak"] = hint_leak_messages(trajectory.question, hints, written[told:])
    return chats
