"""The teach stage: every planned attempt of a shard becomes one trajectory."""

from collections.abc import Mapping, Sequence

from pipeline.plan import Planned
from pipeline.stages.items import Care, Work, walk
from pipeline.stages.rollout import Rollout
from pipeline.stages.teaching import Teaching, unstarted
from pipeline.stages.videos import OpenVideos
from schemas.captions import CaptionTree
from schemas.errors import Failure, Rejected
from schemas.trajectory import Trajectory


class TeachStage:
    """Runs the attempts of a shard concurrently. limit: attempts under way at once."""

    name = "teach"

    def __init__(self, teaching: Teaching, limit: int) -> None:
        self._teaching = teaching
        self._limit = limit

    async def run(self, planned: Sequence[Planned], trees: Mapping[str, CaptionTree], care: Care) -> list[Trajectory]:
        """One trajectory per attempt, in the plan's order. trees: the captioned videos of the shard, by video id."""
        async with OpenVideos() as videos:

            async def attempt(item: Planned) -> Trajectory:
                return await self._attempt(item, trees.get(item.question.video_id), videos)

            work = Work(
                stage=self.name,
                name=lambda item: item.trajectory_id,
                do=attempt,
                failed=lambda item, failure: unstarted(item, self._teaching, failure),
                limit=self._limit,
            )
            return await walk(planned, work, care)

    async def _attempt(self, planned: Planned, tree: CaptionTree | None, videos: OpenVideos) -> Trajectory:
        if planned.error is not None:
            return unstarted(planned, self._teaching, planned.error)
        if tree is None:
            raise Rejected("no_captions", f"{planned.question.video_id} is not among the shard's captions")
        if tree.video is None or tree.error is not None:
            missing = Failure(stage="caption", kind="no_video", message=f"{tree.video_id} was not probed")
            return unstarted(planned, self._teaching, tree.error or missing)
        return await Rollout(planned, tree, tree.video, self._teaching, videos).run()
