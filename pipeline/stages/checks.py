"""The checks of a verdict that need no model: pure functions over a trajectory and what was decoded again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from prompts.captioning import parse_qa
from prompts.protocol import Setting, ZoomProtocol
from schemas.captions import CaptionTree
from schemas.timeline import Interval, length_s, overlap_s
from schemas.trajectory import Action, Observation, Trajectory, carried_out
from schemas.video import Frame

FrameLists = Mapping[str, Sequence[Frame]]
"""Frames decoded again, by call id; "overview" for the overview."""


def zooms(trajectory: Trajectory) -> list[Action]:
    """The looks that were carried out on the video, in order: all actions but answers, times and refused ones."""
    return [action for turn in trajectory.turns for action in carried_out(turn.actions, turn.observations)]


def setting_after(setting: Setting, turns: Iterable[tuple[Sequence[Action], Sequence[Observation]]]) -> Setting:
    """The setting of the next action, given those of the turns before it and of its own, and what they brought."""
    before = list(turns)
    done = [zoom for actions, observations in before for zoom in carried_out(actions, observations)]
    n_calls = sum(action.kind != "answer" for actions, _ in before for action in actions)
    return replace(setting, earlier=tuple(spans(done)), calls_before=n_calls)


def settings(trajectory: Trajectory, setting: Setting) -> dict[str, Setting]:
    """The setting of each action, by call id, as its rollout had it."""
    turns = [(turn.actions, turn.observations) for turn in trajectory.turns]
    return {
        action.call_id: setting_after(setting, [*turns[:number], (actions[:i], observations)])
        for number, (actions, observations) in enumerate(turns)
        for i, action in enumerate(actions)
    }


def calls(trajectory: Trajectory) -> list[Action]:
    """All actions but answers, refused ones included, in order."""
    return [action for turn in trajectory.turns for action in turn.actions if action.kind != "answer"]


def spans(actions: Sequence[Action]) -> list[Interval]:
    """The seconds that located actions cover."""
    return [(a.start_s, a.end_s) for a in actions if a.start_s is not None and a.end_s is not None]


def well_formed(trajectory: Trajectory) -> bool:
    """Whether every turn kept the protocol and the last one answers."""
    return trajectory.status == "answered" and all(turn.error == "" for turn in trajectory.turns)


def in_bounds(trajectory: Trajectory, protocol: ZoomProtocol, setting: Setting) -> bool:
    """Whether every action, checked anew, lies in the video and within its budget."""
    of = settings(trajectory, setting)
    return all(protocol.check(action, of[action.call_id]) is None for action in calls(trajectory))


@dataclass(frozen=True)
class Recheck:
    """What a trajectory's observations are compared with.

    settings: of each action, by call id; frames: decoded again by re-executing the actions; moments: by call id, the
    frame on screen at a time asked for; tree: the run's captions; reply_text: the stored reply of a call by its key,
    None where it is no longer there.
    """

    protocol: ZoomProtocol
    settings: Mapping[str, Setting]
    frames: FrameLists
    moments: Mapping[str, int]
    tree: CaptionTree
    reply_text: Callable[[str], str | None]


def mismatch(trajectory: Trajectory, recheck: Recheck) -> str:
    """The first difference between the recorded observations and re-executing their actions; "" where all match."""
    overview = trajectory.overview.frames if trajectory.overview else ()
    if tuple(recheck.frames.get("overview", ())) != tuple(overview):
        return f"overview: {_difference(overview, recheck.frames.get('overview', ()))}"
    for turn in trajectory.turns:
        actions = {action.call_id: action for action in turn.actions}
        for observation in turn.observations:
            difference = _observation_difference(observation, actions.get(observation.call_id), recheck)
            if difference:
                return f"{observation.call_id}: {difference}"
        answered = {o.call_id for o in turn.observations}
        if missing := [a.call_id for a in turn.actions if a.kind != "answer" and a.call_id not in answered]:
            return f"{missing[0]}: no observation is recorded"
    return ""


def _observation_difference(observation: Observation, action: Action | None, recheck: Recheck) -> str:
    if observation.kind == "error":
        return _error_difference(observation, action, recheck)
    if action is None:
        return "no action has this call id"
    if observation.kind == "caption":
        return _caption_difference(observation, action, recheck.tree)
    if observation.kind == "time":
        index = recheck.moments.get(observation.call_id)
        return "" if observation.text == str(index) else f"frame {observation.text} recorded, {index} is on screen"
    again = recheck.frames.get(observation.call_id, ())
    if tuple(again) != observation.frames:
        return _difference(observation.frames, again)
    if observation.kind == "qa":
        text = recheck.reply_text(observation.call_key)
        if text is not None and parse_qa(text) != observation.text:
            return "the answer differs from the stored reply"
    return ""


def _error_difference(observation: Observation, action: Action | None, recheck: Recheck) -> str:
    if action is None or observation.call_key:
        return ""
    fault = recheck.protocol.check(action, recheck.settings[action.call_id])
    if fault is None:
        node = next((n for n in recheck.tree.nodes if n.path == action.segment), None)
        return "" if node is not None and node.error else "the refused action is valid"
    return "" if fault.message == observation.text else "the refusal differs"


def _caption_difference(observation: Observation, action: Action, tree: CaptionTree) -> str:
    node = next((n for n in tree.nodes if n.path == action.segment), None)
    if node is None:
        return f"segment {action.segment} has no caption"
    same = node.caption == observation.text and (observation.start_s, observation.end_s) == (
        node.shown_times_s[0],
        node.shown_times_s[-1],
    )
    return "" if same else f"the caption of segment {action.segment} differs"


def _difference(recorded: Sequence[Frame], again: Sequence[Frame]) -> str:
    if len(recorded) != len(again):
        return f"{len(recorded)} frames recorded, {len(again)} decoded"
    number, old, new = next((i, a, b) for i, (a, b) in enumerate(zip(recorded, again, strict=True)) if a != b)
    if old.hash != new.hash and (old.index, old.time_s) == (new.index, new.time_s):
        return f"frame {number + 1} at {old.time_s:.3f} s: the picture differs"
    recorded_at, decoded_at = f"{old.index} at {old.time_s:.3f} s", f"{new.index} at {new.time_s:.3f} s"
    return f"frame {number + 1}: recorded index {recorded_at}, decoded {decoded_at}"


@dataclass(frozen=True)
class Grounding:
    """Union of zooms against union of clue intervals, in seconds; each in 0..1.

    iou = intersection / union; recall = intersection / clues; precision = intersection / zooms. Each second counts
    once, so revisiting a clue gains nothing (LongVideo-R1's published reward counts it twice).
    """

    iou: float
    recall: float
    precision: float


def grounding(zoomed: Sequence[Interval], clues: Sequence[Interval]) -> Grounding | None:
    """None without clue intervals. A clue of no length counts as met where a zoom contains it."""
    if not clues:
        return None
    widened = [(start, max(end, start + 1e-3)) for start, end in clues]
    shared, zoom_s, clue_s = overlap_s(zoomed, widened), length_s(zoomed), length_s(widened)
    union = zoom_s + clue_s - shared
    return Grounding(
        iou=shared / union if union > 0 else 0.0,
        recall=min(1.0, shared / clue_s),
        precision=min(1.0, shared / zoom_s) if zoom_s > 0 else 0.0,
    )


def told(trajectory: Trajectory) -> dict[str, object]:
    """What a verdict tells of the trajectory itself, by field, so that statistics need not read trajectories."""
    zoomed = spans(zooms(trajectory))
    return {
        "think_chars": sum(len(turn.think) for turn in trajectory.turns),
        "n_invalid": sum(turn.error != "" for turn in trajectory.turns),
        "n_cut_off": sum(turn.error == "cut_off" for turn in trajectory.turns),
        "n_trainable": sum(turn.trainable for turn in trajectory.turns),
        "zoom_starts_s": tuple(start for start, _ in zoomed),
        "zoom_ends_s": tuple(end for _, end in zoomed),
        "source": trajectory.question.source,
        "teacher": trajectory.teacher,
        "usage": trajectory.usage,
        "failure": trajectory.error,
    }


def redundant(done: Sequence[Action]) -> int:
    """How many zooms show nothing that those before did not.

    Such a zoom's seconds are covered, to a millisecond, by earlier zooms of its kind that looked as closely: at no
    lower frame rate, at no higher level of segments, and with the same query. A closer look at a seen span is none.
    """
    return sum(_repeats(action, done[:number]) for number, action in enumerate(done))


def _repeats(action: Action, before: Sequence[Action]) -> bool:
    as_close = [
        a
        for a in before
        if (a.kind, a.query) == (action.kind, action.query)
        and len(a.segment) >= len(action.segment)
        and (a.fps or 0.0) >= (action.fps or 0.0)
    ]
    span = spans([action])
    return bool(span) and length_s(span) - overlap_s(spans(as_close), span) < 1e-3
