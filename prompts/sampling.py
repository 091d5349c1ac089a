"""Times at which frames are taken."""

_BEFORE_END_S = 1e-3
"""Seconds before the end of a span at which its last frame is still on screen."""


def spread(start_s: float, end_s: float, count: int) -> tuple[float, ...]:
    """`count` times in seconds from `start_s` to `end_s`, both included, evenly spaced (numpy's linspace)."""
    if count == 1:
        return (start_s,)
    return tuple(start_s + (end_s - start_s) * i / (count - 1) for i in range(count))


def spread_indices(first: int, last: int, count: int) -> tuple[int, ...]:
    """`count` frame indices from `first` to `last`, both included, each once: numpy's linspace, decimals cut off."""
    if count == 1 or last <= first:
        return (first,)
    step = (last - first) / (count - 1)
    return tuple(dict.fromkeys([*(int(i * step + first) for i in range(count - 1)), last]))


def spread_within(start_s: float, end_s: float, count: int, fps: float) -> tuple[float, ...]:
    """As `spread`, up to the last frame that is on screen before `end_s`, and no more times than there are frames."""
    frames = max(1, int((end_s - start_s) * fps + 0.5))
    return spread(start_s, max(start_s, end_s - _BEFORE_END_S), min(count, frames))


def last_instant(duration_s: float) -> float:
    """A time in seconds at which the video's last frame is on screen."""
    return max(0.0, duration_s - _BEFORE_END_S)
