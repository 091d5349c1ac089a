"""Statements and the looks they are judged by: the latest first, and an earlier one where that does not show it."""

import asyncio
from collections.abc import Sequence

from pipeline.stages.claims import Claim, claims, decidable, support
from schemas.chat import Message
from schemas.video import Frame
from tests.stages.test_checks import ANSWER, trajectory, turn, zoom


def frame(time_s: float) -> Frame:
    return Frame(index=round(time_s * 10), time_s=time_s, hash="", width=320, height=240)


def test_a_statement_belongs_to_the_looks_before_it_and_counts_once() -> None:
    walk = trajectory(
        turn("The overview is dark. A man waves.", zoom(10, 20)),
        turn("The sign says FISH. I look at the next clip.", zoom(70, 75, 1), error="outside_video", kind="error"),
        turn("The sign says FISH. The door is open.", zoom(30, 40, 2)),
        turn("The lamp is red, so the answer is B.", ANSWER.actions[0]),
    )
    assert claims(walk) == [
        Claim("The sign says FISH.", ("0.0",)),
        Claim("The door is open.", ("0.0",)),
        Claim("The lamp is red.", ("2.0", "0.0")),
    ]


def test_without_a_look_nothing_is_claimed() -> None:
    assert claims(trajectory(turn("The sign says FISH.", ANSWER.actions[0]))) == []


def test_looks_that_could_not_be_decoded_are_left_out() -> None:
    made = [Claim("The sign says FISH.", ("1.0", "0.0")), Claim("The door is open.", ("1.0",))]
    assert decidable(made, {"0.0"}) == [Claim("The sign says FISH.", ("0.0",))]


def test_an_earlier_look_counts_where_the_latest_does_not_show_it() -> None:
    frames = {"0.0": (frame(1.0),), "1.0": (frame(2.0),)}
    shown = {("Red.", 1.0): 0.9, ("Red.", 2.0): 0.2, ("Blue.", 1.0): 0.4, ("Blue.", 2.0): 0.3, ("Tall.", 2.0): 0.6}
    asked: list[tuple[str, float]] = []

    async def yes(chats: Sequence[tuple[Message, ...]]) -> list[float]:
        looks = [(chat[0].text.partition("Statement: ")[2].split("\n")[0], chat[0].frames[0].time_s) for chat in chats]
        asked.extend(looks)
        return [shown[look] for look in looks]

    made = [(Claim(said, ("1.0", "0.0")), frames) for said in ("Red.", "Blue.", "Tall.")]
    assert asyncio.run(support(made, yes)) == [0.9, 0.4, 0.6]
    assert ("Tall.", 1.0) not in asked  # what the latest look shows needs no other


def test_half_a_look_may_show_what_the_whole_does_not() -> None:
    look = tuple(frame(t) for t in (1.0, 2.0, 3.0, 4.0))
    asked: list[list[float]] = []

    async def yes(chats: Sequence[tuple[Message, ...]]) -> list[float]:
        times = [[one.time_s for one in chat[0].frames] for chat in chats]
        asked.extend(times)
        return [0.8 if seen == [3.0, 4.0] else 0.3 for seen in times]

    said = Claim("The sign says FISH.", ("0.0",))
    assert asyncio.run(support([(said, {"0.0": look}), (said, {"0.0": look[:3]})], yes)) == [0.8, 0.3]
    assert asked == [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0], [1.0, 2.0], [3.0, 4.0]]  # three frames are not parted
