"""Actors stay from one run to the next where that one needs the same; others are ended before new ones are hired."""

import asyncio

import pytest

from pipeline import actors
from pipeline.actors import Crew
from pipeline.pools import Post
from pipeline.stage_actor import StageActor

SMALL, LARGE = Post(0.5, 0.0, 8), Post(2.0, 1.0, 8)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of Ray, in order."""
    asked: list[str] = []

    def hired(post: Post) -> str:
        asked.append(f"hire {post.cpus}")
        return f"actor {sum(line.startswith('hire') for line in asked)}"

    monkeypatch.setattr(actors, "_hired", hired)
    monkeypatch.setattr(actors, "end", lambda actor: asked.append(f"end {actor}"))
    return asked


def test_a_run_finds_the_actors_of_the_one_before(log: list[str]) -> None:
    crew = Crew(growing=True)
    first = crew.take([SMALL, LARGE])
    crew.give_back([SMALL, LARGE], first)
    assert crew.take([LARGE, SMALL]) == first[::-1]
    assert log == ["hire 0.5", "hire 2.0"]


def test_what_fits_no_post_is_ended_before_another_is_hired(log: list[str]) -> None:
    crew = Crew(growing=True)
    crew.give_back([SMALL, SMALL], crew.take([SMALL, SMALL]))
    assert crew.take([LARGE, SMALL]) == ["actor 3", "actor 1"]
    assert log[2:] == ["end actor 2", "hire 2.0"]


def test_dismissed_actors_are_not_found_again(log: list[str]) -> None:
    crew = Crew(growing=True)
    crew.give_back([SMALL], crew.take([SMALL]))
    crew.dismiss()
    crew.take([SMALL])
    assert log == ["hire 0.5", "end actor 1", "hire 0.5"]


def test_an_actor_that_came_back_without_a_run_says_so_instead_of_failing() -> None:
    """It died while it was idle: its slots learn of it by this answer, and assign it again."""
    assert asyncio.run(StageActor().run("replay", 0, [], frozenset(), frozenset())) is None
