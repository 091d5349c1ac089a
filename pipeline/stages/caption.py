"""The caption stage: one decoding pass over a video gives its overview and the frames of every segment to caption."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pipeline.media.sandbox import SafeVideo, open_video
from pipeline.models.chat import ChatModel, Pictures, Reply, with_pixels
from pipeline.stages.items import Care, Work, walk
from pipeline.stages.reuse import EarlierCaptions
from pipeline.subtitles import load_subtitles
from prompts.captioning import CAPTION_LEVELS, CUT_OFF, Cue, caption_messages, caption_width, parse_caption
from prompts.protocol import Fault, ZoomProtocol
from schemas.captions import CaptionNode, CaptionTree, Picture, Usage
from schemas.config import AS_PUBLISHED, Captions, View
from schemas.errors import Failure, Rejected
from schemas.timeline import LEVELS, SegmentPath, Segments, Timeline
from schemas.video import FramePlan, PixelBudget, Video, uniform

SPLIT_RULE = "duration*j/width**level"
TRIES = 2
"""How often a captioner is asked for one segment when its reply holds no caption, or was cut off."""

_DECODERS = 2
"""Videos decoded at once; more than these may wait for their captions."""

_CHUNK = 16
"""Pictures taken from the decoder at a time: few enough to keep captioning close behind decoding."""


Captioning = asyncio.Task[tuple[CaptionNode, Usage]]


@dataclass(frozen=True)
class VideoJob:
    """A video to caption: the source's reference and where its file should be."""

    video_id: str
    uri: str


@dataclass(frozen=True)
class _Segment:
    path: SegmentPath
    start_s: float
    end_s: float
    frames: range
    plan: FramePlan


def segments_to_caption(timeline: Timeline, width: int, view: View) -> list[_Segment]:
    """All segments of the three levels with the frames that LongVideo-R1 shows of each, top level first."""
    tree = Segments(timeline.duration_s, width)
    found = []
    for level in range(1, LEVELS + 1):
        rule = CAPTION_LEVELS[level]
        for path in tree.paths(level):
            frames = timeline.within(tree.span(path))
            plan = FramePlan(budget=PixelBudget(max_side=rule.max_side), indices=uniform(frames, rule.frames))
            found.append(_Segment(path, *tree.span(path), frames, view.caption(plan)))
    return found


class CaptionStage:
    """Probes each video, takes its overview and, for a protocol that needs them, writes its captions.

    limit: videos under way at once. Captions of an earlier run with equal settings are taken over
    (`captions.reuse_from`).
    """

    name = "caption"

    def __init__(
        self,
        protocol: ZoomProtocol,
        captioner: ChatModel | None,
        settings: Captions,
        subtitles: str | None,
        fingerprint: str,
        view: View = AS_PUBLISHED,
        limit: int = 2,
    ) -> None:
        self._protocol = protocol
        self._captioner = captioner
        self._settings = settings
        self._subtitles = subtitles
        self._earlier = EarlierCaptions(settings.reuse_from, fingerprint) if settings.reuse_from else None
        self._view = view
        self._limit = limit
        self._decoders = asyncio.Semaphore(_DECODERS)

    async def run(self, jobs: Sequence[VideoJob], care: Care) -> list[CaptionTree]:
        """One row per video, in the jobs' order; a video that cannot be used becomes a failed row with its fault."""

        work = Work(stage=self.name, name=lambda job: job.video_id, do=self._caption, failed=_failed, limit=self._limit)
        return await walk(jobs, work, care)

    async def _caption(self, job: VideoJob) -> CaptionTree:
        captioning: dict[int, Captioning] = {}
        try:
            async with self._decoders:
                opened = await asyncio.to_thread(open_video, job.uri, job.video_id)
                try:
                    if self._earlier and (tree := await asyncio.to_thread(self._earlier.find, opened.video)):
                        return tree
                    width, n_segments, overview = await self._one_pass(opened, captioning)
                finally:
                    await asyncio.to_thread(opened.close)
            captioned = await asyncio.gather(*(captioning[number] for number in range(n_segments)))
        except BaseException:
            for task in captioning.values():
                task.cancel()
            await asyncio.gather(*captioning.values(), return_exceptions=True)
            raise
        tree = CaptionTree(
            video_id=opened.video.video_id,
            status="ok",
            video=opened.video,
            width=width,
            split_rule=SPLIT_RULE if width else None,
            nodes=tuple(node for node, _ in captioned),
            overview=tuple(overview),
            usage=sum((usage for _, usage in captioned), Usage()),
            error=None,
        )
        return _refused_if_incomplete(tree)

    async def _one_pass(
        self, opened: SafeVideo, captioning: dict[int, Captioning]
    ) -> tuple[int | None, int, list[Picture]]:
        """The tree's width, its number of segments, and the overview's pictures.

        captioning: gets each segment's caption, by its number, asked for as soon as its last frame is there.
        """
        video = opened.video
        shown = self._protocol.overview_plan(video)
        width, segments, cues = None, list[_Segment](), list[Cue]()
        if self._protocol.uses_captions:
            width = caption_width(video.duration_s, self._settings.min_width)
            segments = segments_to_caption(opened.timeline, width, self._view)
            cues = load_subtitles(self._subtitles, video.video_id)
        plans = [segment.plan for segment in segments] + ([self._view.overview(shown)] if shown else [])
        wanted = [len(opened.indices(plan)) for plan in plans]
        arrived: list[dict[int, Picture]] = [{} for _ in plans]
        pictures = opened.sample(plans)
        while chunk := await asyncio.to_thread(_take, pictures):
            for number, position, picture in chunk:
                arrived[number][position] = picture
                if number < len(segments) and len(arrived[number]) == wanted[number]:
                    of_segment = [arrived[number][i] for i in range(wanted[number])]
                    arrived[number] = {}
                    captioning[number] = asyncio.ensure_future(self._node(video, segments[number], of_segment, cues))
        overview = arrived[-1] if len(plans) > len(segments) else {}
        return width, len(segments), [overview[i] for i in range(len(overview))]

    async def _node(
        self, video: Video, segment: _Segment, shown: Sequence[Picture], cues: Sequence[Cue]
    ) -> tuple[CaptionNode, Usage]:
        if self._captioner is None:
            raise Rejected("no_captioner", f"{self._protocol.name} needs a captioner in the config")
        frames = tuple(picture.frame for picture in shown)
        messages = caption_messages(len(segment.path), frames, (segment.start_s, segment.end_s), cues)
        chat = with_pixels(messages, Pictures(shown))
        usage, caption, error, reply = Usage(), "", "", None
        for sample in range(TRIES):
            try:
                reply = await self._captioner.complete(chat, sample=sample)
            except Rejected as rejected:
                error = f"{rejected.kind}: {rejected.message}"
                break
            usage += reply.usage
            found = CUT_OFF if reply.finish_reason == "length" else parse_caption(reply.text)
            caption, error = ("", found.name) if isinstance(found, Fault) else (found, "")
            if caption:
                break
        return _caption_node(segment, shown, self._captioner.name, reply, caption, error), usage


def _caption_node(
    segment: _Segment, shown: Sequence[Picture], model: str, reply: Reply | None, caption: str, error: str
) -> CaptionNode:
    return CaptionNode(
        path=segment.path,
        start_s=segment.start_s,
        end_s=segment.end_s,
        first_frame=segment.frames[0],
        last_frame=segment.frames[-1],
        caption=caption,
        shown_indices=tuple(p.frame.index for p in shown),
        shown_times_s=tuple(p.frame.time_s for p in shown),
        width=shown[0].frame.width,
        height=shown[0].frame.height,
        model=model,
        prompt_hash=reply.key if reply else "",
        error=error,
    )


def _take(pictures: Iterator[tuple[int, int, Picture]]) -> list[tuple[int, int, Picture]]:
    return list(islice(pictures, _CHUNK))


def _refused_if_incomplete(tree: CaptionTree) -> CaptionTree:
    """A tree without all of its top-level captions has no overview to show; a lower gap only closes that segment."""
    gap = next((node for node in tree.nodes if node.error and len(node.path) == 1), None)
    if gap is None:
        return tree
    message = f"{tree.video_id}: segment {gap.path} has no caption: {gap.error}"
    failure = Failure(stage="caption", kind="caption_missing", message=message, attempts=TRIES)
    return tree.model_copy(update={"status": "failed", "error": failure})


def _failed(job: VideoJob, failure: Failure) -> CaptionTree:
    return CaptionTree(
        video_id=job.video_id,
        status="failed",
        video=None,
        width=None,
        split_rule=None,
        nodes=(),
        overview=(),
        usage=Usage(),
        error=failure,
    )
