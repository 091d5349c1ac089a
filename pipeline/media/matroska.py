"""Whether a Matroska or WebM file is whole: its elements must follow one another without a gap, to its declared end.

FFmpeg jumps over damage in this container to the next thing it recognises, and says so only in its log; the frames
after the jump then decode from the wrong references to wrong pixels, without an error.
"""

import mmap
from pathlib import Path

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"
CLUSTER = b"\x1f\x43\xb6\x75"

# Cues, SeekHead, Info, Tracks, Tags, Chapters, Attachments, Void, CRC-32; then what a cluster holds: Timestamp,
# SimpleBlock, BlockGroup, PrevSize, Position, SilentTracks, EncryptedBlock.
KNOWN = {
    *(b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x12\x54\xc3\x67"),
    *(b"\x10\x43\xa7\x70", b"\x19\x41\xa4\x69", b"\xec", b"\xbf"),
    *(b"\xe7", b"\xa3", b"\xa0", b"\xab", b"\xa7", b"\x58\x54", b"\xaf"),
}


def fault(path: str) -> tuple[str, str] | None:
    """The kind (video_truncated, video_damaged) and the words for the first structural fault; None for a whole file."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _fault(data)


def _fault(data: mmap.mmap) -> tuple[str, str] | None:
    _, header, at = _element(data, 0)
    name, length, at = _element(data, at + (header or 0))
    if name != SEGMENT:
        return "video_damaged", f"no segment at byte {at}"
    end = len(data) if length is None else at + length
    if end > len(data):
        return _cut(data, end)
    while at < end:
        name, length, start = _element(data, at)
        if name == CLUSTER:
            at = start
            continue
        if name not in KNOWN or length is None:
            return "video_damaged", f"unknown data at byte {at}"
        at = start + length
    return _cut(data, at) if at > len(data) else None


def _cut(data: mmap.mmap, end: int) -> tuple[str, str]:
    return "video_truncated", f"cut short, {len(data)} of at least {end} bytes are there"


def _element(data: mmap.mmap, at: int) -> tuple[bytes, int | None, int]:
    """Identifier, length in bytes (None where unknown) and start of the content of the element at a byte."""
    start = at + _width(data, at)
    width = _width(data, start)
    content = start + width
    if start == at or width == 0:
        return b"", None, at
    unknown = (1 << 7 * width) - 1
    length = int.from_bytes(data[start:content], "big") & unknown
    return data[at:start], None if length == unknown else length, content


def _width(data: mmap.mmap, at: int) -> int:
    """Bytes of the variable-length number at a byte; 0 where there is none."""
    return 9 - data[at].bit_length() if at < len(data) and data[at] else 0
