"""The frames that a model saw, decoded from the video again and proven by their recorded hashes."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from pipeline.media.sandbox import SafeVideo, open_video
from pipeline.page.films import Films, absent
from pipeline.shards.pictures import Place, place, plans
from schemas.errors import Rejected
from schemas.video import Frame, Video

BATCH = 16
"""Frames of one look that are decoded together: the first is on screen soon, and its neighbours come with it."""

_OPEN_VIDEOS = 3
_HELD_BYTES = 256 << 20

VideoKey = tuple[str, str]
"""Of a video: its path and its content's hash."""

Key = tuple[VideoKey, Place]
"""Of a picture: the video, and which of its pictures."""


class Frames:
    """Pictures by video and frame, the latest of them in memory. May be called from several threads.

    films: says what may be decoded.
    """

    def __init__(self, films: Films, held_bytes: int = _HELD_BYTES) -> None:
        self._films = films
        self._limit = held_bytes
        self._held: OrderedDict[Key, tuple[str, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._opened: OrderedDict[VideoKey, _Opened] = OrderedDict()

    def jpeg(self, video: Video, wanted: Frame, look: Sequence[Frame]) -> bytes:
        """The picture of a frame as the model saw it, to the byte. look: the frames it was shown with.

        Raises Rejected: `video_elsewhere` where it must not be fetched, a VideoError where the video is another or
        cannot give it, `frame_mismatch` where it gives another picture.
        """
        key = (_key(video), place(wanted))
        found = self._get(key)
        if found is None:
            self._films.require(video)
            with self._open(video) as opened:
                found = self._get(key) or self._decode(video, opened, wanted, look)
        digest, jpeg = found
        if digest != wanted.hash:
            message = f"frame {wanted.index} is another picture now: its hash is {digest}, recorded is {wanted.hash}"
            raise Rejected("frame_mismatch", message)
        return jpeg

    def close(self) -> None:
        """Closes the videos."""
        with self._lock:
            opened = list(self._opened.values())
            self._opened.clear()
        for one in opened:
            one.close()

    def _decode(self, video: Video, opened: SafeVideo, wanted: Frame, look: Sequence[Frame]) -> tuple[str, bytes]:
        """Decodes the batch of a frame. Raises Rejected."""
        at = look.index(wanted) // BATCH * BATCH
        places = {place(frame) for frame in (*look[at : at + BATCH], wanted)}
        found: tuple[str, bytes] | None = None
        for _, _, picture in opened.sample(plans(places, len(opened.timeline.times_s))):
            self._put((_key(video), place(picture.frame)), (picture.frame.hash, picture.jpeg))
            if place(picture.frame) == place(wanted):
                found = picture.frame.hash, picture.jpeg
        if found is None:
            raise Rejected("frame_mismatch", f"the video ends before frame {wanted.index}")
        return found

    def _get(self, key: Key) -> tuple[str, bytes] | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def _put(self, key: Key, picture: tuple[str, bytes]) -> None:
        with self._lock:
            self._bytes += len(picture[1]) - len(self._held.pop(key, ("", b""))[1])
            self._held[key] = picture
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= len(self._held.popitem(last=False)[1][1])

    def _open(self, video: Video) -> "_Opened":
        """The video, to be used by one thread at a time; the one unused for longest is closed."""
        with self._lock:
            opened = self._opened.setdefault(_key(video), _Opened(video))
            self._opened.move_to_end(_key(video))
            unused = self._opened.popitem(last=False)[1] if len(self._opened) > _OPEN_VIDEOS else None
        if unused:
            threading.Thread(target=unused.close, daemon=True).start()
        return opened


def _key(video: Video) -> VideoKey:
    return video.uri, video.content_hash


class _Opened:
    """A video that is opened when it is first used."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._lock = threading.Lock()
        self._opened: SafeVideo | None = None

    def __enter__(self) -> SafeVideo:
        self._lock.acquire()
        try:
            if self._opened is None:
                opened = open_video(self._video.uri, self._video.video_id)
                if opened.video.content_hash != self._video.content_hash:  # fetched, or changed since it was proven
                    opened.close()
                    raise absent(self._video)
                self._opened = opened
            return self._opened
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is not None and self._opened is not None:
            with suppress(OSError):
                self._opened.close()
            self._opened = None
        self._lock.release()

    def close(self) -> None:
        """Waits until no thread uses it."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
