"""A video decoded in a child process, so that a decoder that crashes or hangs costs one video and nothing else.

Parent and child speak over one socket pair: each request has one answer, with signs of life before it while the child
works. The child ends when its parent does (the socket closes), and ends itself by an alarm of the kernel's where it
shows no progress for `stall_s` seconds, even inside a library that never returns.
"""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.media.errors import VideoError
from pipeline.media.fetched import local_video
from pipeline.media.video import plan_indices
from pipeline.remote import shown
from schemas.captions import Picture
from schemas.timeline import Timeline
from schemas.video import FramePlan, Video

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 2.0
"""How much longer than the child's own alarm the parent waits before it kills the child, in seconds."""


class SafeVideo:
    """The same as VideoFile, decoded in a child process. A context manager; its methods may be called from any thread.

    Several `sample` iterators and `read` calls may alternate; an iterator that is abandoned costs nothing further.
    After a crash (video_crash) or a stall (video_timeout) every further call raises the same VideoError.
    """

    video: Video
    timeline: Timeline

    def __init__(self, uri: str, video_id: str = "", stall_s: float = 60.0) -> None:
        self._uri = shown(uri)
        self._file = local_video(uri)
        self._patience_s = stall_s + GRACE_S
        self._lock = threading.Lock()
        self._fault: VideoError | None = None
        self._numbers = itertools.count()
        self._dropped: list[int] = []
        self._connection, theirs = Pipe()
        with theirs:
            self._process = _start(theirs.fileno(), stall_s)
        try:
            video, self.timeline = self._request("open", self._file.path, video_id or uri)
        except BaseException:
            self.close()
            raise
        self.video = video.model_copy(update={"uri": uri})

    def __enter__(self) -> "SafeVideo":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def path(self) -> str:
        """Of the file that is decoded, on this machine; it is there until `close`."""
        return self._file.path

    def close(self) -> None:
        """Ends the child at once. May be called twice, and while another thread waits for a picture."""
        self._process.kill()
        with self._lock:
            self._fault = self._fault or VideoError("video_crash", f"{self._uri}: closed")
            self._connection.close()
        self._process.wait()
        self._file.close()

    def indices(self, plan: FramePlan) -> list[int]:
        """The frame index of each picture of a plan, in its order. Raises ValueError where an index is out of range."""
        return plan_indices(plan, self.timeline)

    def read(self, plan: FramePlan) -> list[Picture]:
        """The pictures of a plan, in its order, which may be any, with repeats. Raises VideoError, ValueError."""
        placed = {position: picture for _, position, picture in self.sample([plan])}
        return [placed[position] for position in range(len(placed))]

    def sample(self, plans: Sequence[FramePlan]) -> Iterator[tuple[int, int, Picture]]:
        """(plan number, position within the plan, picture) for all plans out of one forward pass, in order of time.

        The child decodes ahead by a bounded number of pictures while the caller works. Raises VideoError, ValueError.
        """
        for plan in plans:
            self.indices(plan)
        return self._sample(tuple(plans))

    def _sample(self, plans: tuple[FramePlan, ...]) -> Iterator[tuple[int, int, Picture]]:
        number = next(self._numbers)
        try:
            self._request("sample", number, plans)
            while batch := self._request("next", number):
                yield from batch
        finally:
            # No lock here: the garbage collector may run this in the middle of a request of the same thread.
            self._dropped.append(number)

    def _request(self, name: str, *arguments: Any) -> Any:
        """The child's answer to a request. Raises VideoError."""
        with self._lock:
            if self._fault is not None:
                raise self._fault
            try:
                dropped = [self._dropped.pop() for _ in range(len(self._dropped))]
                self._connection.send((dropped, name, arguments))
                kind, *content = self._answer()
            except (EOFError, OSError) as error:
                self._fault = self._autopsy()
                raise self._fault from error
            except BaseException:
                # Interrupted between question and answer: the two sides no longer agree on what comes next.
                self._process.kill()
                self._fault = VideoError("video_crash", f"{self._uri}: decoding was interrupted")
                raise
        if kind == "fault":
            fault, message = content
            raise VideoError(fault, message.replace(self._file.path, self._uri))
        return content[0]

    def _answer(self) -> tuple[Any, ...]:
        """The next message that is more than a sign of life. Raises EOFError where the child is gone or hangs."""
        while True:
            if not self._connection.poll(self._patience_s):
                self._process.send_signal(signal.SIGALRM)
                raise EOFError
            message: tuple[Any, ...] = self._connection.recv()
            if message[0] != "busy":
                return message

    def _autopsy(self) -> VideoError:
        """What ended the child, as an error that names the file."""
        try:
            status = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = -signal.SIGALRM
        if status == -signal.SIGALRM:
            seconds = self._patience_s - GRACE_S
            return VideoError("video_timeout", f"{self._uri}: the decoder made no progress for {seconds:g} s")
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return VideoError("video_crash", f"{self._uri}: the decoder process died ({how})")


def open_video(uri: str, video_id: str = "", stall_s: float = 60.0) -> SafeVideo:
    """Opens a video in a child process of its own.

    uri: a local path, or a URL, of which the file is fetched; video_id: the source's reference; stall_s: seconds
    without progress after which the child is given up. Raises VideoError; Fatal where a video cannot be fetched.
    """
    return SafeVideo(uri, video_id, stall_s)


def _start(descriptor: int, stall_s: float) -> "subprocess.Popen[bytes]":
    """Starts the child with its end of the socket pair."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.media.decoder_child", str(descriptor), str(stall_s)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
        env={**os.environ, "PYTHONPATH": path},
    )
