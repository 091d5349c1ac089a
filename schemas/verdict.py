"""What replaying a trajectory on the real pixels found: flat columns, so that SQL can filter on them."""

from pydantic import ConfigDict

from schemas.captions import Usage
from schemas.errors import Failure
from schemas.record import Record


class Verdict(Record):
    """One row of `verdicts/`. A check that does not apply is None (no clue intervals, no verifier, nothing to check).

    Probabilities and shares lie in 0..1. The text under a column is its definition: `zoomtrail columns` shows it.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    trajectory_id: str
    """The attempt that was replayed, `question_id@attempt`: the key of its row in `trajectories/`."""
    question_id: str
    """The question that it answers: as its source names it, else by its content."""
    video_id: str
    """The source's own reference to the video, as written there."""
    attempt: int
    """Which attempt at the question it is, from 0."""
    protocol: str
    """Name of the protocol that it was taught in."""
    status: str
    """How the attempt ended, as its trajectory says."""
    hint_level: int
    """The last step of the hint ladder that was shown, from 0; -1 without a hint."""
    well_formed: bool | None
    """Every turn kept the protocol."""
    in_bounds: bool | None
    """Each action lay in the video and within its budget of frames."""
    consistent: bool | None
    """A thought that names a span or a segment not yet looked at names one that its action calls."""
    zooms_mentioned: float | None
    """Share of the zooms whose own thought names the place that is called. None without zooms, and where no thought of
    the trajectory names any place (then only an empty thought counts against it)."""
    observations_match: bool | None
    """Re-executing every action gave the recorded frames (indices, times, hashes) and texts."""
    mismatch: str | None
    """The first difference that re-executing found."""
    answer_correct: bool | None
    """The final answer equals the reference: by letter, number or normalised text (`prompts/judging.py`), or, where
    these do not decide, as the judge says. Without a judge that is false; None where the judge did not say."""
    hint_leak: bool | None
    """The text written after a hint betrays it (rules in `pipeline/stages/leaks.py`); None without a hint."""
    gold_leak: bool | None
    """The text betrays the reference answer (rules in `pipeline/stages/leaks.py`); None where there is no text."""
    p_gold_blind: float | None
    """The verifier's probability of the reference answer given the question alone: a scored choice, the mean over the
    orders of the choices. This and all columns `p_gold_*` are None for an open question, whose reference is no choice,
    and without a verifier."""
    p_gold_overview: float | None
    """The same given the overview. For a question of choice it is the pass rate of direct answers drawn at temperature
    1, without drawing any: the difficulty before a zoom."""
    p_gold_evidence: float | None
    """The same given the overview and all zooms."""
    p_gold_zooms_only: float | None
    """The same given the zooms alone; None without zooms."""
    p_gold_steps: tuple[float, ...] | None
    """The same given the overview and the first k zooms, k = 0..n."""
    gain_per_step: tuple[float, ...] | None
    """The differences of `p_gold_steps`, in -1..1: a process reward for each zoom."""
    evidence_gain: float | None
    """p_gold_evidence - p_gold_overview, in -1..1."""
    n_claims: int
    """Statements about what is seen that were made after a zoom."""
    claims_supported: float | None
    """Share of them to which the verifier says yes (p >= 0.5) on the frames of the latest zoom, or else of either half
    of it or of any earlier one: the highest of these counts, so that more looks make a statement easier to support."""
    claim_min: float | None
    """The lowest, over the statements, of that highest probability of yes, as against no. A local model is asked for
    both in small letters; of a server `Yes` counts with `yes`."""
    grounding_iou: float | None
    """Temporal IoU of the union of zooms and the union of clue intervals, by seconds."""
    grounding_recall: float | None
    """Share of the clue intervals' seconds that zooms cover."""
    grounding_precision: float | None
    """Share of the zooms' seconds that lie in clue intervals."""
    n_turns: int
    """Model turns."""
    n_zooms: int
    """Looks that were carried out."""
    n_frames: int
    """Frames that they showed."""
    redundant_zooms: int
    """Zooms that show nothing that one before did not."""
    verifier: str | None
    """The model that scored."""
    verifier_tokens: int
    """Tokens that it read; what attempts at a video share is divided evenly."""
    error: Failure | None
    """Why there is no verdict."""
    p_gold_four_frames: float | None = None
    """The verifier's probability of the reference given four frames spread over the video (`verifier.screens`): high
    where a question asks for no search."""
    p_gold_disordered: float | None = None
    """The same given overview and zooms with their frames in random order under the same times (`verifier.screens`):
    as high as p_gold_evidence where the order of events does not matter. None where the true second is burnt into the
    pixels (love_r1), which would give the order away."""
    answer_judged_by: str | None = None
    """What decided on answer_correct: letter, number, text or judge."""
    judge_said: str | None = None
    """The judge's words on the answer, or why there are none that count (`kind: message`). None after a rule."""
    judge_call: str | None = None
    """Key of the judge's reply among the run's calls."""
    judge_hint_leak: bool | None = None
    """As hint_leak, in the judge's opinion (`judge.leaks`), by the texts alone; None where it did not say."""
    judge_gold_leak: bool | None = None
    """As gold_leak, in the judge's opinion (`judge.leaks`), by the texts alone; None where it did not say."""
    pass_rate: float | None = None
    """How often the verifier answers rightly by the overview alone, in 0..1: the difficulty of the question. Of a
    question of choice it is p_gold_overview where that is exact, which is what the share of right ones among answers
    drawn at temperature 1 tends to, without their noise and cost; where a server gives samples alone, the plain share
    of right ones among them. Of an open one the share of right ones among `verifier.rollouts` drawn answers: without a
    judge those that no rule decides count as wrong, and it is None where a rule decides none."""
    n_rollouts: int | None = None
    """Drawn answers behind pass_rate, without those that the judge did not decide on; 0 where none were drawn, and
    where pass_rate is an exact probability."""
    think_chars: int | None = None
    """Characters of all thoughts."""
    n_invalid: int | None = None
    """Turns that broke the protocol."""
    n_cut_off: int | None = None
    """Turns cut off at the token limit."""
    n_trainable: int | None = None
    """Turns that a trainer learns."""
    zoom_starts_s: tuple[float, ...] | None = None
    """Where each zoom begins, in seconds: of those that were carried out on a span of time, in order."""
    zoom_ends_s: tuple[float, ...] | None = None
    """Where each of them ends."""
    source: str | None = None
    """Of the question: kind of source."""
    teacher: str | None = None
    """Of the trajectory, as the following are: model that wrote the turns."""
    usage: Usage | None = None
    """What its model calls consumed."""
    failure: Failure | None = None
    """Why it failed."""
