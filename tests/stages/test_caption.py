"""The caption stage: one pass, every segment captioned from its own frames, gaps recorded."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.models.batches import BatchModel
from pipeline.models.calls import CallStore
from pipeline.models.chat import ChatMessage
from pipeline.stages.caption import CaptionStage, VideoJob
from pipeline.stages.items import Care
from pipeline.subtitles import load_subtitles, parse_srt
from prompts.protocols import protocol
from schemas.captions import CaptionNode, CaptionTree
from schemas.config import AS_PUBLISHED, Captions, EndpointCaptioner, View
from schemas.timeline import Segments
from tests.batch_driver import FAST
from tests.batch_server import BatchServer, serving
from tests.corpus import read_barcode
from tests.stages.scripted import Say, ScriptedModel, clip, text_of

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,
friend.

2
00:00:05,250 --> 00:00:05,300
Blink.

3
00:00:20,000 --> 00:00:21,000
Too late.
"""


def captioned(
    folder: Path,
    say: Say,
    name: str = "longvideo_r1",
    subtitles: str | None = None,
    view: View = AS_PUBLISHED,
    finish_reason: str = "stop",
) -> tuple[CaptionTree, ScriptedModel]:
    model = ScriptedModel(say, finish_reason)
    stage = CaptionStage(protocol(name), model, Captions(), subtitles, "fingerprint", view)
    (tree,) = asyncio.run(stage.run([VideoJob("clip.mp4", clip(folder))], Care()))
    return tree, model


def shown(messages: Sequence[ChatMessage]) -> list[int]:
    """Indices of the frames in a request, read from their pixels."""
    return [read_barcode(part) for message in messages for part in message.parts if isinstance(part, bytes)]


def node_frames(node: CaptionNode) -> range:
    return range(node.first_frame, node.last_frame + 1)


def test_every_segment_of_the_tree_is_captioned_from_its_own_frames(tmp_path: Path) -> None:
    tree, model = captioned(tmp_path, lambda messages, sample: f"<caption>{len(messages[1].parts)}</caption>")
    assert tree.status == "ok" and tree.video is not None and tree.width == 4
    assert [len(node.path) for node in tree.nodes] == [1] * 4 + [2] * 16 + [3] * 64
    assert model.counts.sent == 84 == tree.usage.calls
    segments = Segments(tree.video.duration_s, 4)
    for node in tree.nodes:
        start, end = segments.span(node.path)
        assert (node.start_s, node.end_s) == (start, end)
        assert all(start - 1e-6 <= t < end or len(node.shown_times_s) == 1 for t in node.shown_times_s)
        assert node.first_frame <= min(node.shown_indices) <= max(node.shown_indices) <= node.last_frame
        assert node.caption and "<" not in node.caption and node.prompt_hash
    for one, following in zip(tree.nodes[20:], tree.nodes[21:], strict=False):
        assert following.first_frame - one.last_frame in (0, 1)


def test_the_captioner_sees_the_very_frames_that_are_recorded(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def say(messages: Sequence[ChatMessage], sample: int) -> str:
        seen.append(shown(messages))
        return "<caption>x</caption>"

    tree, _ = captioned(tmp_path, say)
    assert sorted(seen) == sorted(list(node.shown_indices) for node in tree.nodes)


def test_a_protocol_of_frames_gets_its_overview_and_needs_no_captioner(tmp_path: Path) -> None:
    tree, model = captioned(tmp_path, lambda messages, sample: "never", "videozoomer")
    assert model.counts.sent == 0 and tree.nodes == () and tree.width is None
    assert [picture.frame.time_s for picture in tree.overview] == pytest.approx([0, 2, 4, 6, 8, 10], abs=0.06)
    assert all(read_barcode(p.jpeg) == p.frame.index for p in tree.overview)


def test_a_reply_without_a_caption_is_asked_for_again_once(tmp_path: Path) -> None:
    tree, model = captioned(
        tmp_path, lambda messages, sample: "<caption>late</caption>" if sample else "<caption></caption>"
    )
    assert {node.caption for node in tree.nodes} == {"late"}
    assert model.counts.sent == 168 == tree.usage.calls


def test_a_caption_that_was_cut_off_is_asked_for_again_and_never_kept(tmp_path: Path) -> None:
    tree, model = captioned(tmp_path, lambda messages, sample: "<caption>and then and then", finish_reason="length")
    assert {(node.caption, node.error) for node in tree.nodes} == {("", "cut_off")}
    assert model.counts.sent == 168 and tree.error is not None and tree.error.message.endswith("no caption: cut_off")


def test_a_refused_leaf_closes_only_that_segment(tmp_path: Path) -> None:
    def say(messages: Sequence[ChatMessage], sample: int) -> str:
        first_leaf = shown(messages) == [0, 1]
        return "!content_filter" if first_leaf else "<caption>x</caption>"

    tree, _ = captioned(tmp_path, say)
    gaps = [node for node in tree.nodes if node.error]
    assert tree.status == "ok" and [node.path for node in gaps] == [(1, 1, 1)]
    assert gaps[0].caption == "" and gaps[0].error.startswith("content_filter")


def test_a_tree_without_a_top_caption_is_a_failed_row_that_keeps_what_was_paid(tmp_path: Path) -> None:
    def say(messages: Sequence[ChatMessage], sample: int) -> str:
        return "!refusal" if len(shown(messages)) == 30 else "<caption>x</caption>"

    tree, _ = captioned(tmp_path, say)
    assert tree.status == "failed" and tree.error is not None and tree.error.kind == "caption_missing"
    assert "refusal" in tree.error.message and tree.usage.calls == 80


def test_a_broken_video_is_a_failed_row_that_names_file_and_fault(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    stage = CaptionStage(protocol("videozoomer"), None, Captions(), None, "")
    jobs = [
        VideoJob("broken.mp4", str(tmp_path / "broken.mp4")),
        VideoJob("clip.mp4", clip(tmp_path)),
        VideoJob("none", str(tmp_path / "none.mp4")),
    ]
    broken, good, missing = asyncio.run(stage.run(jobs, Care()))
    assert good.status == "ok"
    assert broken.error is not None and "broken.mp4" in broken.error.message
    assert missing.error is not None and missing.error.kind == "video_missing"


def test_every_subtitle_reaches_the_captioner_at_every_level(tmp_path: Path) -> None:
    (tmp_path / "clip.srt").write_text(SRT)
    tree, model = captioned(tmp_path, lambda messages, sample: "<caption>x</caption>", subtitles=str(tmp_path))
    texts = [text_of(messages) for messages in model.asked]
    assert sum("Hello there, friend." in text for text in texts) >= 3
    assert sum("Blink." in text for text in texts) >= 3
    assert not any("Too late" in text for text in texts)
    assert len(tree.nodes) == 84


def test_srt_is_read_with_markup_removed_and_odd_files_do_not_break_it(tmp_path: Path) -> None:
    cues = parse_srt(SRT.replace("\n", "\r\n"))
    assert [(cue.start_s, cue.end_s, cue.text) for cue in cues[:2]] == [
        (1.0, 2.5, "Hello there, friend."),
        (5.25, 5.3, "Blink."),
    ]
    assert parse_srt("") == [] and parse_srt("no cues\nhere") == []
    (tmp_path / "v.mp4.srt").write_bytes("\ufeff1\n00:00:00,0 --> 00:00:01,0\nü".encode("utf-8"))
    assert [cue.text for cue in load_subtitles(str(tmp_path), "v.mp4")] == ["ü"]
    assert load_subtitles(str(tmp_path), "other.mp4") == []


def test_a_view_narrows_what_the_captioner_sees_and_what_stands_before_the_first_turn(tmp_path: Path) -> None:
    view = View(caption_frames=3, caption_side=100, overview_frames=4, overview_side=64)
    tree, _ = captioned(tmp_path, lambda messages, sample: f"<caption>{len(shown(messages))}</caption>", view=view)
    assert all(len(node.shown_indices) == min(3, len(node_frames(node))) for node in tree.nodes)
    assert all(int(node.caption) == len(node.shown_indices) for node in tree.nodes)
    assert all(max(node.width, node.height) == 100 for node in tree.nodes)
    assert [(n.shown_indices[0], n.shown_indices[-1]) for n in tree.nodes] == [
        (n.first_frame, n.last_frame) for n in tree.nodes
    ]
    frames_tree, _ = captioned(tmp_path, lambda messages, sample: "never", "videozoomer", view=view)
    frames = [picture.frame for picture in frames_tree.overview]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 4, 6, 10], abs=0.06)
    assert {max(frame.width, frame.height) for frame in frames} == {64}


def test_the_captions_of_several_videos_come_by_one_batch(tmp_path: Path) -> None:
    async def scene() -> None:
        async with serving(BatchServer(work_s=1.0)) as server:
            config = EndpointCaptioner(model="m", base_url=server.base_url, batch=True)
            model = BatchModel(config, "captioner", CallStore(str(tmp_path / "run")), pace=replace(FAST, quiet_s=6.0))
            stage = CaptionStage(protocol("longvideo_r1"), model, Captions(), None, "fingerprint", limit=16)
            jobs = [VideoJob(f"{s}", clip(tmp_path, s, f"{s}.mp4")) for s in (10.0, 11.0, 12.0)]
            trees = await stage.run(jobs, Care())
            await model.close()
            assert [tree.status for tree in trees] == ["ok"] * 3
            assert all(node.caption == "A scene." for tree in trees for node in tree.nodes)
            keys = {node.prompt_hash for tree in trees for node in tree.nodes}
            assert len(server.batches) == 1 and server.paid == dict.fromkeys(keys, 1) and server.live == []

    asyncio.run(scene())
