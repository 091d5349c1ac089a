"""Why a video was refused."""

from schemas.errors import Rejected


class VideoError(Rejected):
    """A video, or a part of it, that cannot be decoded exactly. The message is one line naming the file and the fault.

    `kind` is one of: video_missing, video_unreadable, video_no_stream, video_empty, video_truncated, video_damaged,
    video_unsupported, video_crash, video_timeout.
    """
