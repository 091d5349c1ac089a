"""Opening a media file safely, and telling a file that was cut short from a whole one."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.media import matroska
from pipeline.media.errors import VideoError

# Playlists (HLS, concat, DASH) are left out on purpose: they make FFmpeg open other files and addresses.
FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif,mpegvideo,h264,hevc,ivf,wtv,mxf"
LFS_POINTER = b"version https://git-lfs"
MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"uuid", b"moof", b"sidx")


def check_file(path: str) -> None:
    """Raises VideoError where a file is missing, empty, no media at all, or ends before its own boxes do."""
    file = Path(path)
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise VideoError("video_missing", f"{path}: not a file")
        if size == 0:
            raise VideoError("video_empty", f"{path}: the file has 0 bytes")
        with file.open("rb") as stream:
            head = stream.read(32)
            if head.startswith(LFS_POINTER):
                raise VideoError("video_unreadable", f"{path}: a Git LFS pointer, not the video (run `git lfs pull`)")
            end = _declared_end(stream, head, size)
    except OSError as error:
        raise VideoError("video_missing", f"{path}: {error.strerror or error}") from error
    fault = matroska.fault(path) if head.startswith(matroska.EBML_MAGIC) else None
    if fault is not None:
        raise VideoError(fault[0], f"{path}: {fault[1]}")
    if end > size:
        raise VideoError("video_truncated", f"{path}: cut short, {size} of at least {end} bytes are there")


def open_stream(path: str) -> tuple[InputContainer, VideoStream]:
    """The opened container and its best video stream.

    Of several, FFmpeg's choice: the one marked as default, then the one with the higher bit rate. Cover art is none.
    Raises VideoError (video_unreadable, video_no_stream, video_unsupported).
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise VideoError("video_unreadable", f"{path}: not a video that FFmpeg can open ({reason(error)})") from error
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        container.close()
        raise VideoError("video_no_stream", f"{path}: no video stream")
    if stream.codec_context is None or stream.time_base is None:
        container.close()
        raise VideoError("video_unsupported", f"{path}: no decoder for its video stream")
    return container, stream


def container_name(container: InputContainer) -> str:
    """The first of FFmpeg's names for a container's format: `mov` for MP4, `matroska` for WebM."""
    return container.format.name.split(",")[0]


def reason(error: BaseException) -> str:
    """FFmpeg's own words for an error, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _declared_end(stream: BinaryIO, head: bytes, size: int) -> int:
    """The byte at which a file must at least end, by its outermost boxes; 0 where the format does not say."""
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[4:8] in MOV_BOXES:
        ends = (end for kind, end in _boxes(stream, size) if kind in (b"moov", b"mdat", b"moof"))
        return max(ends, default=0)
    return 0


def _boxes(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """(type, end) of each outermost box of an MP4 or QuickTime file, in bytes."""
    start = 0
    while start + 8 <= size:
        stream.seek(start)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        end = start + length if length else size
        if end < start + 8:
            return
        yield head[4:8], end
        start = end
