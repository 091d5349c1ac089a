"""What all attempts of a run have in common, and the row of one that could not begin."""

from dataclasses import dataclass

from pipeline.models.chat import ChatModel, Embedder
from pipeline.plan import Planned
from prompts.protocol import ZoomProtocol
from schemas.captions import Usage
from schemas.config import AS_PUBLISHED, View
from schemas.config import Rollout as RolloutSettings
from schemas.errors import Failure
from schemas.trajectory import Trajectory


@dataclass(frozen=True)
class Teaching:
    """What all attempts of a run have in common. answerer: answers `video_qa`; None where there is no such action.

    embedder: chooses frames by a query where the protocol lets it; None: they are spread evenly. student: makes the
    rollouts, of which the teacher corrects the wrong ones; None: the teacher makes them itself.
    """

    protocol: ZoomProtocol
    teacher: ChatModel
    answerer: ChatModel | None
    settings: RolloutSettings
    view: View = AS_PUBLISHED
    embedder: Embedder | None = None
    student: ChatModel | None = None

    @property
    def max_turns(self) -> int:
        return self.settings.max_turns or self.protocol.default_max_turns


def unstarted(planned: Planned, teaching: Teaching, failure: Failure | None) -> Trajectory:
    """The row of an attempt that could not begin, with the reason; the blank row of one that does."""
    return Trajectory(
        trajectory_id=planned.trajectory_id,
        question_id=planned.question.question_id,
        video_id=planned.question.video_id,
        attempt=planned.attempt,
        protocol=teaching.protocol.name,
        protocol_version=teaching.protocol.version,
        status="failed",
        question=planned.question,
        video=None,
        overview=None,
        turns=(),
        max_turns=teaching.max_turns,
        final_answer=None,
        teacher=teaching.teacher.name,
        hints=(),
        answer_shown=False,
        interval_shown=False,
        usage=Usage(),
        error=failure,
        tools=teaching.protocol.tools,
    )
