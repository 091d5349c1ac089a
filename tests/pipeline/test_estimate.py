"""The price before a run: what is shown less is counted less."""

import pytest

from pipeline.estimate import estimate, judging, judging_leaks
from prompts.protocols import protocol
from schemas.config import RunConfig
from tests.prompts.examples import VIDEO as EXAMPLE

VIDEO = EXAMPLE.model_copy(update={"duration_s": 128.0, "n_frames": 3200})


def tokens(name: str, **view: int) -> dict[str, tuple[int, int]]:
    """(calls, prompt tokens) by role for three attempts of two turns at one video."""
    job = {
        "protocol": name,
        "source": {"path": "q", "videos": "v"},
        "teacher": {"model": "m", "base_url": "http://h/v1"},
        "captioner": {"path": "c"},
        "view": view,
    }
    roles = estimate(RunConfig.model_validate(job), protocol(name), [(VIDEO, 3)], 2)
    return {role.role: (role.calls, role.prompt_tokens) for role in roles}


def test_pictures_are_counted_at_the_size_they_are_shown() -> None:
    picture = 422 * 236 // 784 + 1 + 8  # 64 of them before the first turn, 12 after a zoom
    first, zoom = 400 + 64 * picture, 200 + 12 * picture
    assert tokens("videozoomer") == {"teacher": (6, 3 * (2 * first + zoom))}
    assert tokens("videozoomer", overview_frames=10) == {"teacher": (6, 3 * (2 * (400 + 10 * picture) + zoom))}
    small = 64 * 36 // 784 + 1 + 8
    assert tokens("videozoomer", zoom_side=64, zoom_frames=2) == {"teacher": (6, 3 * (2 * first + 200 + 2 * small))}


def test_a_reflection_is_counted_as_the_teachers_and_the_rollout_as_the_students() -> None:
    job = {
        "source": {"path": "q", "videos": "v"},
        "teacher": {"model": "m", "base_url": "http://h/v1"},
        "rollout": {"reflect": 2},
    }
    alone = estimate(RunConfig.model_validate(job), protocol("videozoomer"), [(VIDEO, 3)], 2)
    assert [(role.role, role.calls) for role in alone] == [("teacher", 12)]
    named = job | {"student": {"model": "s", "base_url": "http://h/v1"}}
    both = estimate(RunConfig.model_validate(named), protocol("videozoomer"), [(VIDEO, 3)], 2)
    assert [(role.role, role.calls) for role in both] == [("student", 6), ("teacher", 6)]
    assert sum(role.prompt_tokens for role in both) == alone[0].prompt_tokens


def test_a_judge_is_asked_of_every_open_answer_at_most_and_of_every_attempts_text_where_it_looks_for_leaks() -> None:
    judge = {"model": "j", "base_url": "http://h/v1", "price": {"input": 1, "output": 2, "batch": 0.5}}
    job = {
        "source": {"path": "q", "videos": "v"},
        "teacher": {"model": "m", "base_url": "http://h/v1"},
        "verifier": {"path": "v", "rollouts": 4},
        "judge": judge,
    }
    config = RunConfig.model_validate(job)
    found = judging(config, n_attempts=6, n_questions=3)
    assert (found.role, found.calls, found.prompt_tokens) == ("judge", 6 + 3 * 4, 18 * 300)
    assert found.dollars == pytest.approx((18 * 300 * 1 + 18 * 5 * 2) / 1e6)
    halved = judging(RunConfig.model_validate(job | {"judge": judge | {"batch": True}}), 6, 3)
    assert halved.dollars == pytest.approx(found.dollars / 2)
    assert judging_leaks(config, n_attempts=10, turns=5).calls == 10
    hinted = RunConfig.model_validate(job | {"rollout": {"hints": "after_wrong_answer"}})
    assert judging_leaks(hinted, n_attempts=10, turns=5).calls == 20


@pytest.mark.parametrize("view", [{"caption_frames": 4}, {"caption_side": 80}])
def test_captions_from_fewer_or_smaller_frames_cost_less(view: dict[str, int]) -> None:
    full, narrowed = tokens("longvideo_r1"), tokens("longvideo_r1", **view)
    assert full["captioner"][0] == narrowed["captioner"][0] == 84
    assert narrowed["captioner"][1] < full["captioner"][1] / 2
    assert narrowed["teacher"] == full["teacher"]


def test_an_endpoint_without_a_price_costs_an_unknown_sum_and_a_local_model_nothing() -> None:
    job = {
        "protocol": "longvideo_r1",
        "source": {"path": "q", "videos": "v"},
        "teacher": {"model": "m", "base_url": "http://h/v1"},
        "captioner": {"path": "c"},
    }
    roles = estimate(RunConfig.model_validate(job), protocol("longvideo_r1"), [(VIDEO, 3)], 2)
    assert {role.role: role.dollars for role in roles} == {"captioner": 0.0, "teacher": None}
