"""Subtitles from `.srt` files."""

import re
from pathlib import Path, PurePosixPath

from pipeline.remote import is_remote
from pipeline.storage import Storage
from prompts.captioning import Cue
from schemas.errors import Rejected

_TIME = r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})"
_SPAN = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}.*$")
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")


def _seconds(hours: str, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")


def parse_srt(text: str) -> list[Cue]:
    """The cues of an SRT file in order of start, in seconds, without markup; cues without text are left out."""
    cues: list[Cue] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")):
        lines = block.strip("\n").split("\n")
        for number, line in enumerate(lines):
            if match := _SPAN.match(line):
                words = " ".join(_MARKUP.sub("", rest).strip() for rest in lines[number + 1 :]).strip()
                start, end = _seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])
                if words:
                    cues.append(Cue(start, max(start, end), words))
                break
    return sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))


def load_subtitles(folder: str | None, video_id: str) -> list[Cue]:
    """The cues of a video: `folder/<video name>.srt`; none where there is no folder or no such file.

    Raises Rejected where the file is there but cannot be read; Fatal where a store cannot be asked.
    """
    if folder is None:
        return []
    names = (f"{video_id}.srt", str(PurePosixPath(video_id).with_suffix(".srt")))
    data = next((found for name in names if (found := _content(folder, name)) is not None), None)
    if data is None:
        return []
    try:
        return parse_srt(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return parse_srt(data.decode("latin-1"))


def _content(folder: str, name: str) -> bytes | None:
    if is_remote(folder):
        return Storage(folder).read_or_none(name)
    path = Path(folder) / name
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise Rejected("subtitles_unreadable", f"{path.name}: {error.strerror}") from error
