"""From trajectories to training rows, by the same renderer that the teacher was asked with."""

from collections.abc import Sequence
from typing import Any

from prompts.protocol import ZoomProtocol
from prompts.protocols import protocol
from prompts.rendering import said, states
from schemas.chat import Message
from schemas.errors import Fatal, UserError
from schemas.samples import Provenance, RlSample, SampleMessage, SftSample, StepSample, VideoReference
from schemas.trajectory import Trajectory, carried_out
from schemas.video import Frame, Video

Facts = dict[str, Any]
"""What SQL knows of a kept trajectory: columns of its verdict for its provenance, and its question's counts."""


def sft_samples(trajectory: Trajectory, facts: Facts, origin: dict[str, str]) -> list[SftSample]:
    """What a kept trajectory teaches: its whole conversation; of a stateless protocol each valid turn by itself.

    origin: `run_fingerprint` and `kept_by`.

    Raises Fatal where the `<image>` marks are not the frames: such a row would train on the wrong pictures.
    Raises UserError where the turns belong to another version of the protocol.
    """
    zoom, samples = _protocol(trajectory), list[SftSample]()
    for number, messages in enumerate(states(zoom, trajectory.dialogue())):
        if zoom.stateless and not trajectory.turns[number].trainable:
            continue
        said, images = _rendered(trajectory, messages)
        sample = SftSample(
            messages=said,
            images=images,
            tools=trajectory.tools,
            video=_video(trajectory),
            answer=trajectory.final_answer,
            provenance=_provenance(trajectory, facts, origin, number if zoom.stateless else None),
        )
        samples.append(sample)
    return samples


def corrections_only(sample: SftSample) -> SftSample:
    """The sample without loss on the wrong rollout that a reflection corrects; itself where there is none."""
    if not any(m.origin == "reflection" for m in sample.messages):
        return sample
    messages = (m.model_copy(update={"train": m.train and m.origin == "reflection"}) for m in sample.messages)
    return sample.model_copy(update={"messages": tuple(messages)})


def rl_sample(trajectory: Trajectory, facts: Facts, origin: dict[str, str]) -> RlSample:
    """The prompt of a kept trajectory's question, before any turn. facts: also `n_attempts` and `n_correct`.

    Raises as `sft_samples` does.
    """
    unbegun = trajectory.model_copy(update={"turns": (), "reflection": None})
    prompt, images = _rendered(trajectory, _protocol(trajectory).messages(unbegun.dialogue()))
    return RlSample(
        prompt=prompt,
        images=images,
        **_asked(trajectory),
        n_attempts=facts["n_attempts"],
        n_correct=facts["n_correct"],
        pass_rate=facts["n_correct"] / facts["n_attempts"] if facts["n_attempts"] else None,
        provenance=_provenance(trajectory, facts, origin),
    )


def step_samples(trajectory: Trajectory, facts: Facts, origin: dict[str, str]) -> list[StepSample]:
    """The turns of a kept trajectory that zoomed, each with its gain. facts: also `p_gold_steps`.

    None where there is no verifier's probability for each zoom (an open question, a cut without a verifier). The gain
    of a turn with several zooms is that of all of them. Raises as `sft_samples` does.
    """
    p = facts["p_gold_steps"] or ()
    zooms = [len(carried_out(turn.actions, turn.observations)) for turn in trajectory.turns]
    if not sum(zooms) or len(p) != sum(zooms) + 1:
        return []
    zoom, dialogue = _protocol(trajectory), trajectory.dialogue()
    samples, done = list[StepSample](), 0
    for number, (turn, count) in enumerate(zip(trajectory.turns, zooms, strict=True)):
        if not count:
            continue
        before = zoom.messages(dialogue.model_copy(update={"turns": dialogue.turns[:number]}))
        prompt, images = _rendered(trajectory, before)
        (action,), _ = _rendered(trajectory, (said(zoom, turn),))
        samples.append(
            StepSample(
                prompt=prompt,
                images=images,
                action=action.content,
                turn=number,
                p_before=p[done],
                p_after=p[done + count],
                evidence_gain=p[done + count] - p[done],
                **_asked(trajectory),
                provenance=_provenance(trajectory, facts, origin, number),
            )
        )
        done += count
    return samples


def _asked(trajectory: Trajectory) -> dict[str, Any]:
    """What rows for RL say of the question and its video, a prompt or a single step alike."""
    question = trajectory.question
    return {
        "tools": trajectory.tools,
        "video": _video(trajectory),
        "kind": question.kind,
        "ground_truth": question.answer_letter or question.answer_text,
        "answer_text": question.answer_text,
        "choices": question.choices,
        "clue_intervals": question.clue_intervals,
        "caption_width": trajectory.overview.width if trajectory.overview else None,
    }


def _protocol(trajectory: Trajectory) -> ZoomProtocol:
    try:
        zoom = protocol(trajectory.protocol)
    except KeyError as error:
        raise Fatal(f"{trajectory.trajectory_id}: {error.args[0]}") from error
    if zoom.version != trajectory.protocol_version:
        raise UserError(
            f"{trajectory.trajectory_id} was made with version {trajectory.protocol_version} of {zoom.name}, this is "
            f"version {zoom.version}: cut with the Zoomtrail that made it"
        )
    return zoom


def _rendered(
    trajectory: Trajectory, messages: Sequence[Message]
) -> tuple[tuple[SampleMessage, ...], tuple[Frame, ...]]:
    """Messages with `<image>` in place of each frame, and the frames. Raises Fatal where a text holds such a mark."""
    made, images = list[SampleMessage](), list[Frame]()
    for message in messages:
        content, frames = message.text, message.frames
        if content.count("<image>") != len(frames) or "<video>" in content or "<audio>" in content:
            raise Fatal(f"{trajectory.trajectory_id}: a text holds a media mark, so images would be misplaced")
        images += frames
        made.append(SampleMessage(role=message.role, content=content, train=message.trainable, origin=message.origin))
    return tuple(made), tuple(images)


def _video(trajectory: Trajectory) -> VideoReference:
    video: Video = trajectory.dialogue().video
    return VideoReference(
        video_id=video.video_id,
        uri=video.uri,
        content_hash=video.content_hash,
        duration_s=video.duration_s,
        fps=video.fps,
        n_frames=video.n_frames,
    )


def _provenance(trajectory: Trajectory, facts: Facts, origin: dict[str, str], step: int | None = None) -> Provenance:
    return Provenance(
        trajectory_id=trajectory.trajectory_id,
        question_id=trajectory.question_id,
        attempt=trajectory.attempt,
        step=step,
        protocol=trajectory.protocol,
        protocol_version=trajectory.protocol_version,
        teacher=trajectory.teacher,
        verifier=facts["verifier"],
        hint_level=len(trajectory.hints) - 1,
        answer_shown=trajectory.answer_shown,
        interval_shown=trajectory.interval_shown,
        evidence_gain=facts["evidence_gain"],
        p_gold_evidence=facts["p_gold_evidence"],
        grounding_iou=facts["grounding_iou"],
        run_fingerprint=origin["run_fingerprint"],
        kept_by=origin["kept_by"],
    )
