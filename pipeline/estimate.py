"""What a run would call and cost, before any call is made."""

from collections.abc import Sequence
from dataclasses import dataclass

from prompts.captioning import CAPTION_LEVELS, caption_width
from prompts.protocol import ZoomProtocol
from schemas.config import Endpoint, RunConfig
from schemas.timeline import LEVELS
from schemas.video import FramePlan, PixelBudget, Video

PIXELS_PER_TOKEN = 28 * 28
"""Pixels of a picture that make one token for Qwen2-VL and Qwen2.5-VL; other models count otherwise."""

CHARACTERS_PER_TOKEN = 4
_SYSTEM_TOKENS, _THOUGHT_TOKENS, _CAPTION_TOKENS, _ZOOM_FRAMES = 400, 200, 300, 12


@dataclass(frozen=True)
class RoleEstimate:
    """Calls and tokens of one role; dollars is None where the config names no price."""

    role: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None


def _picture_tokens(budget: PixelBudget, video: Video) -> int:
    width, height = budget.size(video.width, video.height)
    return -(-width * height // PIXELS_PER_TOKEN)


def _plan_tokens(plan: FramePlan | None, video: Video) -> int:
    if plan is None:
        return 0
    return len(plan.times_s or plan.indices or ()) * (_picture_tokens(plan.budget, video) + 8)


def _caption_calls(video: Video, min_width: int) -> tuple[int, int, int]:
    """(calls, prompt tokens, completion tokens) of a video's caption tree."""
    width = caption_width(video.duration_s, min_width)
    calls = prompt = 0
    for level in range(1, LEVELS + 1):
        rule, count = CAPTION_LEVELS[level], width**level
        frames = min(rule.frames, max(1, video.n_frames // count))
        picture = _picture_tokens(PixelBudget(max_side=rule.max_side), video) + 8
        calls += count
        prompt += count * (_SYSTEM_TOKENS + frames * picture)
    return calls, prompt, calls * _CAPTION_TOKENS


def _attempt(protocol: ZoomProtocol, video: Video, turns: int, min_width: int) -> tuple[int, int]:
    """(prompt, completion) tokens of one attempt: each turn sends all that came before again."""
    start, step = _SYSTEM_TOKENS, _THOUGHT_TOKENS
    if protocol.uses_captions:
        start += caption_width(video.duration_s, min_width) * _CAPTION_TOKENS
        step += _CAPTION_TOKENS
    else:
        plan = protocol.overview_plan(video)
        start += _plan_tokens(plan, video)
        if plan is not None:
            step += _ZOOM_FRAMES * (_picture_tokens(plan.budget, video) + 8)
    return sum(start + turn * step for turn in range(turns)), turns * _THOUGHT_TOKENS


def _priced(role: str, model: object, calls: int, prompt: int, completion: int) -> RoleEstimate:
    price = model.price if isinstance(model, Endpoint) else None
    dollars = price.dollars(prompt, completion) if price else None
    return RoleEstimate(role, calls, prompt, completion, dollars)


def estimate(
    config: RunConfig, protocol: ZoomProtocol, attempts: Sequence[tuple[Video, int]], turns: int
) -> list[RoleEstimate]:
    """What each role would be asked, for videos with their number of attempts and a number of turns per attempt."""
    estimates = []
    if protocol.uses_captions:
        sums = [_caption_calls(video, config.captions.min_width) for video, _ in attempts]
        calls, prompt, completion = (sum(column) for column in zip(*sums, strict=True)) if sums else (0, 0, 0)
        estimates.append(_priced("captioner", config.captioner, calls, prompt, completion))
    calls = prompt = completion = 0
    for video, count in attempts:
        per_attempt = _attempt(protocol, video, turns, config.captions.min_width)
        calls, prompt, completion = (
            calls + count * turns,
            prompt + count * per_attempt[0],
            completion + count * per_attempt[1],
        )
    estimates.append(_priced("teacher", config.teacher, calls, prompt, completion))
    return estimates
