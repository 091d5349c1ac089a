"""What a run would call and cost, before any call is made."""

from collections.abc import Sequence
from dataclasses import dataclass

from prompts.captioning import CAPTION_LEVELS, caption_width
from prompts.protocol import ZoomProtocol
from schemas.config import BatchEndpoint, Endpoint, RunConfig
from schemas.timeline import LEVELS
from schemas.video import FramePlan, PixelBudget, Video

PIXELS_PER_TOKEN = 28 * 28
"""Pixels of a picture that make one token for Qwen2-VL and Qwen2.5-VL; other models count otherwise."""

CHARACTERS_PER_TOKEN = 4
_SYSTEM_TOKENS, _THOUGHT_TOKENS, _CAPTION_TOKENS, _TIME_TOKENS = 400, 200, 300, 8
_JUDGING_TOKENS, _JUDGEMENT_TOKENS = 300, 5


@dataclass(frozen=True)
class RoleEstimate:
    """Calls and tokens of one role; dollars is None where the config names no price, 0 on hardware of one's own."""

    role: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None


def _plan_tokens(plan: FramePlan, video: Video) -> int:
    width, height = plan.budget.size(video.width, video.height)
    picture = -(-width * height // PIXELS_PER_TOKEN)
    return len(plan.times_s or plan.indices or ()) * (picture + _TIME_TOKENS)


def _caption_calls(config: RunConfig, video: Video) -> tuple[int, int, int]:
    """(calls, prompt tokens, completion tokens) of a video's caption tree."""
    width = caption_width(video.duration_s, config.captions.min_width)
    calls = prompt = 0
    for level in range(1, LEVELS + 1):
        rule, count = CAPTION_LEVELS[level], width**level
        frames = min(rule.frames, max(1, video.n_frames // count))
        plan = FramePlan(budget=PixelBudget(max_side=rule.max_side), indices=tuple(range(frames)))
        calls += count
        prompt += count * (_SYSTEM_TOKENS + _plan_tokens(config.view.caption(plan), video))
    return calls, prompt, calls * _CAPTION_TOKENS


def _attempt(config: RunConfig, protocol: ZoomProtocol, video: Video, turns: range) -> tuple[int, int]:
    """(prompt, completion) tokens of turns of one attempt, by number: each sends all that came before again."""
    start, step = _SYSTEM_TOKENS, _THOUGHT_TOKENS
    if protocol.uses_captions:
        start += caption_width(video.duration_s, config.captions.min_width) * _CAPTION_TOKENS
        step += _CAPTION_TOKENS
    elif plan := protocol.overview_plan(video):
        start += _plan_tokens(config.view.overview(plan), video)
        if zoom := protocol.typical_zoom(video):
            step += _plan_tokens(config.view.zoom(zoom), video)
    return sum(start + turn * step for turn in turns), len(turns) * _THOUGHT_TOKENS


def _priced(role: str, model: object, calls: int, prompt: int, completion: int) -> RoleEstimate:
    if not isinstance(model, Endpoint):
        return RoleEstimate(role, calls, prompt, completion, 0.0)
    dollars = model.price.dollars(prompt, completion) if model.price else None
    if model.price and dollars is not None and isinstance(model, BatchEndpoint) and model.batch:
        dollars = model.price.by_batch(dollars)
    return RoleEstimate(role, calls, prompt, completion, dollars)


def estimate(
    config: RunConfig, protocol: ZoomProtocol, attempts: Sequence[tuple[Video, int]], turns: int
) -> list[RoleEstimate]:
    """What each role would be asked, for videos with their number of attempts and a number of turns per attempt.

    Every rollout is counted as one to reflect on, where the config has it: an upper bound.
    """
    estimates = []
    if protocol.uses_captions:
        sums = [_caption_calls(config, video) for video, _ in attempts]
        calls, prompt, completion = (sum(column) for column in zip(*sums, strict=True)) if sums else (0, 0, 0)
        estimates.append(_priced("captioner", config.captioner, calls, prompt, completion))
    reflected = turns + config.rollout.reflect
    if config.student is None:
        return [*estimates, _turns("teacher", config, protocol, attempts, range(reflected))]
    student = _turns("student", config, protocol, attempts, range(turns))
    return [*estimates, student, _turns("teacher", config, protocol, attempts, range(turns, reflected))]


def judging(config: RunConfig, n_attempts: int, n_questions: int) -> RoleEstimate:
    """What a judge is asked at most: of each attempt at an open question, and of each answer that the verifier draws.

    n_attempts: at open questions; n_questions: of these. Answers that a rule decides on cost nothing.
    """
    rollouts = config.verifier.rollouts if config.verifier else 0
    calls = n_attempts + n_questions * rollouts
    return _priced("judge", config.judge, calls, calls * _JUDGING_TOKENS, calls * _JUDGEMENT_TOKENS)


def judging_leaks(config: RunConfig, n_attempts: int, turns: int) -> RoleEstimate:
    """What a judge is asked of leaks at most: of every attempt, twice where hints or reflections may be betrayed."""
    hinted = config.rollout.hints != "off" or config.rollout.reflect > 0
    calls = n_attempts * (2 if hinted else 1)
    prompt = calls * (_JUDGING_TOKENS + turns * _THOUGHT_TOKENS)
    return _priced("judge", config.judge, calls, prompt, calls * _JUDGEMENT_TOKENS)


def _turns(
    role: str, config: RunConfig, protocol: ZoomProtocol, attempts: Sequence[tuple[Video, int]], turns: range
) -> RoleEstimate:
    """What a role is asked that has these turns, by number, of every attempt."""
    calls = prompt = completion = 0
    for video, count in attempts:
        per_attempt = _attempt(config, protocol, video, turns)
        calls += count * len(turns)
        prompt += count * per_attempt[0]
        completion += count * per_attempt[1]
    return _priced(role, getattr(config, role), calls, prompt, completion)
