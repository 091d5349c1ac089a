"""What replaying a trajectory on the real pixels found: flat columns, so that SQL can filter on them."""

from schemas.errors import Failure
from schemas.record import Record


class Verdict(Record):
    """One row of `verdicts/`. A check that does not apply is None (no clue intervals, no verifier, nothing to check).

    status, protocol, hint_level: of the trajectory; hint_level is -1 without a hint.
    well_formed: every turn kept the protocol. in_bounds: each action lay in the video and its budget.
    consistent: a thought that names a span or a segment not yet looked at names one that its action calls.
    zooms_mentioned: share of the zooms, in 0..1, whose own thought names the place that is called; None without zooms,
    and where no thought of the trajectory names any place (then only an empty thought counts against it).
    hint_leak: the text written after a hint betrays it; None without a hint. gold_leak: the text betrays the reference
    answer; None where there is no text. See `pipeline/stages/leaks.py` for what counts.
    observations_match: re-executing every action gave the recorded frames (indices, times, hashes) and texts.
    answer_correct: the final answer equals the reference.
    p_gold_blind, p_gold_overview, p_gold_evidence, p_gold_zooms_only: the verifier's probability, in 0..1, of the
    reference answer given the question alone, the overview, the overview and all zooms, the zooms alone.
    p_gold_steps: the same after the overview and the first k zooms, k = 0..n; gain_per_step: its differences;
    evidence_gain: p_gold_evidence - p_gold_overview.
    n_claims: statements about what is seen that were made after a zoom; claims_supported: the share of them, in 0..1,
    to which the verifier says yes (p >= 0.5) on the frames of the latest zoom, of a half of it, or of an earlier one;
    claim_min: the lowest of their probabilities. None without statements or without a verifier.
    grounding_*: union of zooms against union of clue intervals, in seconds: temporal IoU, recall, precision, in 0..1.
    n_turns, n_zooms: counts; redundant_zooms: zooms that show nothing that one before did not; n_frames: frames zoomed.
    verifier: the model that scored; verifier_tokens: those it read, what attempts at a video share divided evenly.
    """

    trajectory_id: str
    question_id: str
    video_id: str
    attempt: int
    protocol: str
    status: str
    hint_level: int
    well_formed: bool | None
    in_bounds: bool | None
    consistent: bool | None
    zooms_mentioned: float | None
    observations_match: bool | None
    mismatch: str | None
    answer_correct: bool | None
    hint_leak: bool | None
    gold_leak: bool | None
    p_gold_blind: float | None
    p_gold_overview: float | None
    p_gold_evidence: float | None
    p_gold_zooms_only: float | None
    p_gold_steps: tuple[float, ...] | None
    gain_per_step: tuple[float, ...] | None
    evidence_gain: float | None
    n_claims: int
    claims_supported: float | None
    claim_min: float | None
    grounding_iou: float | None
    grounding_recall: float | None
    grounding_precision: float | None
    n_turns: int
    n_zooms: int
    n_frames: int
    redundant_zooms: int
    verifier: str | None
    verifier_tokens: int
    error: Failure | None
