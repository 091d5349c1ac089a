"""Carries out the actions of one attempt: frames, captions, moments and answers about a clip."""

from dataclasses import dataclass, field

from pipeline.models.chat import Pictures, with_pixels
from pipeline.stages.search import Search
from pipeline.stages.teaching import Teaching
from pipeline.stages.videos import OpenVideos
from prompts.captioning import CUT_OFF, parse_qa, qa_messages
from prompts.protocol import Fault, Setting
from schemas.captions import CaptionNode, CaptionTree, Usage
from schemas.errors import Rejected
from schemas.trajectory import Action, Observation
from schemas.video import Frame, Video


@dataclass
class Observer:
    """pictures: all that the attempt was shown so far, added to as it looks. usage: of the calls behind `video_qa`."""

    tree: CaptionTree
    video: Video
    setting: Setting
    teaching: Teaching
    videos: OpenVideos
    pictures: Pictures
    usage: Usage = field(default_factory=Usage)

    async def locate(self, action: Action) -> Action:
        """The action with the frame indices of its span, or the seconds of the frames that it names.

        A captioned segment knows its own.
        """
        if action.start_frame is not None and action.end_frame is not None:
            start_s, end_s = await self.videos.seconds(self.video, (action.start_frame, action.end_frame))
            return action.model_copy(update={"start_s": start_s, "end_s": end_s})
        if action.start_s is None or action.end_s is None:
            return action
        node = self._node(action)
        if node is not None:
            first, last = node.first_frame, node.last_frame
        else:
            first, last = await self.videos.span(self.video, (action.start_s, action.end_s))
        return action.model_copy(update={"start_frame": first, "end_frame": last})

    def _node(self, action: Action) -> CaptionNode | None:
        return next((node for node in self.tree.nodes if node.path == action.segment), None)

    async def observe(self, action: Action) -> Observation:
        if action.kind == "caption":
            return self._caption(action)
        if action.kind == "time":
            index = await self.videos.index_at(self.video, action.start_s or 0.0)
            return Observation(call_id=action.call_id, kind="time", text=str(index))
        search = Search(self.teaching.protocol, self.teaching.view, self.teaching.embedder)
        plan, choice = await search.plan(action, self.setting, self.videos)
        shown = await self.videos.read(self.video, plan)
        self.pictures.add(shown)
        frames = tuple(picture.frame for picture in shown)
        if action.kind == "video_qa":
            return await self._video_qa(action, frames)
        return Observation(
            call_id=action.call_id,
            kind="frames",
            text="",
            frames=frames,
            start_s=action.start_s,
            end_s=action.end_s,
            choice=choice,
        )

    def _caption(self, action: Action) -> Observation:
        """The caption of a segment, its span as the first and last frame that the captioner saw."""
        node = self._node(action)
        if node is None or node.error:
            return Observation(call_id=action.call_id, kind="error", text="This segment has no caption.")
        times = node.shown_times_s
        return Observation(call_id=action.call_id, kind="caption", text=node.caption, start_s=times[0], end_s=times[-1])

    async def _video_qa(self, action: Action, frames: tuple[Frame, ...]) -> Observation:
        """The answer of a second model that sees the segment's frames. An unusable reply is an error observation."""
        if self.teaching.answerer is None:
            raise Rejected("no_answerer", "video_qa needs a captioner in the config")
        messages = qa_messages(frames, action.query or "")
        reply = await self.teaching.answerer.complete(with_pixels(messages, self.pictures))
        self.usage += reply.usage
        answer = CUT_OFF if reply.finish_reason == "length" else parse_qa(reply.text)
        if isinstance(answer, Fault):
            return Observation(call_id=action.call_id, kind="error", text=answer.message, call_key=reply.key)
        return Observation(
            call_id=action.call_id,
            kind="qa",
            text=answer,
            frames=frames,
            start_s=action.start_s,
            end_s=action.end_s,
            call_key=reply.key,
        )
