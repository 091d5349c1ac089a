"""Which packets a decoder may start at or do without, by the codec's standard, not by the container's word alone.

A container's keyframe flag is not enough: in H.264 it also marks pictures after which later ones still refer back.
Started at a proven entry point, every picture shown at or after it decodes to the same bits as from the start of the
stream; pictures shown before it (the leading pictures of an open group) do not, and are never taken from there.
"""

from collections.abc import Iterator

NalUnit = bytes | memoryview

SELF_CONTAINED_KEYFRAMES = {"vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "dnxhd"}
"""Codecs whose keyframes cut every reference by definition (their decoders refuse to go on without one)."""

H264_SLICES = range(1, 6)
H264_IDR, H264_SEI = 5, 6
HEVC_SLICES = range(32)
HEVC_ENTRY_POINTS = range(16, 22)
RECOVERY_POINT = 6


def is_entry_point(codec: str, packet: bytes, extradata: bytes | None) -> bool:
    """Whether decoding may start at a packet that the container flags as a keyframe.

    codec: canonical name; packet: its bytes; extradata: the stream's header, which says how NAL units are framed.
    """
    if codec == "h264":
        return _h264_entry_point(_nal_units(packet, _nal_length_size(extradata, 4)))
    if codec == "hevc":
        return _hevc_entry_point(_nal_units(packet, _nal_length_size(extradata, 21)))
    return codec in SELF_CONTAINED_KEYFRAMES


def is_unreferenced(codec: str, packet: memoryview, extradata: bytes | None) -> bool:
    """Whether no other picture is decoded from this one, so that leaving it out changes no other.

    H.264 states it for each slice (nal_ref_idc = 0). HEVC's sub-layer non-reference pictures may still be referred to
    from higher sub-layers; other codecs are not looked into.
    """
    if codec != "h264":
        return False
    slices = [unit[0] for unit in _nal_units(packet, _nal_length_size(extradata, 4)) if unit[0] & 31 in H264_SLICES]
    return bool(slices) and not any(first >> 5 & 3 for first in slices)


def _h264_entry_point(units: Iterator[NalUnit]) -> bool:
    """An IDR picture, or one whose recovery point message promises exact pictures from here on."""
    recovers = False
    for unit in units:
        kind = unit[0] & 31
        if kind == H264_SEI:
            recovers = recovers or _recovers_here(bytes(unit[1:]))
        elif kind in H264_SLICES:
            return kind == H264_IDR or recovers
    return False


def _hevc_entry_point(units: Iterator[NalUnit]) -> bool:
    """An intra random access point (IDR, CRA or BLA)."""
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind in HEVC_SLICES:
            return kind in HEVC_ENTRY_POINTS
    return False


def _recovers_here(message: bytes) -> bool:
    """Whether H.264 SEI messages hold a recovery point with recovery_frame_cnt = 0 and exact_match_flag = 1."""
    data = message.replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(data):
        kind, at = _sei_number(data, at)
        size, at = _sei_number(data, at)
        if kind == RECOVERY_POINT and at < len(data):
            return data[at] & 0xC0 == 0xC0
        at += size
    return False


def _sei_number(data: bytes, at: int) -> tuple[int, int]:
    """A number written as a run of bytes, each 255 but the last, and the position after it."""
    value = 0
    while at < len(data) and data[at] == 255:
        value, at = value + 255, at + 1
    return value + (data[at] if at < len(data) else 0), at + 1


def _nal_length_size(extradata: bytes | None, at: int) -> int:
    """Bytes of the length before each NAL unit; 0 where start codes separate them (Annex B)."""
    if extradata is None or len(extradata) <= at or extradata[0] != 1:
        return 0
    return (extradata[at] & 3) + 1


def _nal_units(packet: NalUnit, length_size: int) -> Iterator[NalUnit]:
    """The first 4096 bytes of each NAL unit of a packet, which is all that is looked at."""
    if length_size == 0:
        for part in bytes(packet).split(b"\0\0\1")[1:]:
            if part:
                yield part[:4096]
        return
    at = 0
    while at + length_size < len(packet):
        size = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        if size:
            yield packet[at : at + min(size, 4096)]
        at += size
