"""Rows that a trainer reads."""

from typing import Literal

from schemas.record import Record
from schemas.timeline import Interval
from schemas.trajectory import Origin
from schemas.video import Frame


class SampleMessage(Record):
    """role and text of one message, `<image>` in place of each frame; train: whether its tokens carry loss.

    origin: of an assistant message, whose turn it is.
    """

    role: str
    content: str
    train: bool
    origin: Origin | None = None


class VideoReference(Record):
    """The video of a sample. content_hash: SHA-256 of the file; duration in seconds, fps in frames a second."""

    video_id: str
    uri: str
    content_hash: str
    duration_s: float
    fps: float
    n_frames: int


class Provenance(Record):
    """Where a row came from. kept_by: the condition of the cut.

    step: number of the turn, from 0, that the row teaches; None for a row that holds the whole conversation.
    """

    trajectory_id: str
    question_id: str
    attempt: int
    step: int | None
    protocol: str
    protocol_version: str
    teacher: str
    verifier: str | None
    hint_level: int
    answer_shown: bool
    interval_shown: bool
    evidence_gain: float | None
    p_gold_evidence: float | None
    grounding_iou: float | None
    run_fingerprint: str
    kept_by: str


class SftSample(Record):
    """One kept trajectory. images: the frame behind each `<image>`, in order of appearance; its hash proves that a
    loader decodes the same picture.

    tools: JSON schemas of the chat's tools; the system message holds them already, so that a chat template must not be
    given them, too.
    answer: the final answer as the teacher wrote it, None where a cut keeps attempts that gave none.
    """

    messages: tuple[SampleMessage, ...]
    images: tuple[Frame, ...]
    tools: tuple[str, ...]
    video: VideoReference
    answer: str | None
    provenance: Provenance


class RlSample(Record):
    """One question with at least one kept trajectory: the prompt, and what its reward needs.

    ground_truth: the letter, or the text of an open answer. n_attempts, n_correct: the run's attempts at this
    question whose outcome is known; those that failed or had to be corrected count as wrong. pass_rate = n_correct /
    n_attempts, None without any such attempt. provenance: of the first kept attempt.
    """

    prompt: tuple[SampleMessage, ...]
    images: tuple[Frame, ...]
    tools: tuple[str, ...]
    video: VideoReference
    kind: Literal["multiple_choice", "open"]
    ground_truth: str
    answer_text: str
    choices: tuple[str, ...]
    clue_intervals: tuple[Interval, ...]
    caption_width: int | None
    n_attempts: int
    n_correct: int
    pass_rate: float | None
    provenance: Provenance


class StepSample(Record):
    """One turn of a kept trajectory that zoomed: a decoupled step with a process reward.

    prompt: the messages before the turn, images theirs; action: the turn's text; turn: its number, from 0.
    p_before, p_after: the verifier's probability, in 0..1, of the reference answer given the overview and all zooms
    before this turn, and with this turn's zooms, too; evidence_gain: their difference. The rest as in `RlSample`.
    """

    prompt: tuple[SampleMessage, ...]
    images: tuple[Frame, ...]
    tools: tuple[str, ...]
    action: str
    turn: int
    p_before: float
    p_after: float
    evidence_gain: float
    video: VideoReference
    kind: Literal["multiple_choice", "open"]
    ground_truth: str
    answer_text: str
    choices: tuple[str, ...]
    clue_intervals: tuple[Interval, ...]
    caption_width: int | None
    provenance: Provenance
