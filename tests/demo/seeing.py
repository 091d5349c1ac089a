"""A stand-in for the small model: it knows a film, and says what the frames of a request show of it."""

import io
import re
from collections.abc import Sequence

from PIL import Image

from pipeline.demo import wording
from pipeline.demo.world import COUNTS, FPS, Film
from pipeline.models.chat import ChatMessage
from tests.stages.scripted import text_of

LEGIBLE = 256
"""Width in pixels from which on words can be read."""

_CAPTION_TIME = re.compile(r"^([\d.]+)s\.", re.MULTILINE)
_QA_TIME = re.compile(r"Video frame at ([\d.]+) seconds:")


def says(film: Film, chat: Sequence[ChatMessage]) -> str:
    """The reply of a model that makes no mistakes."""
    text = text_of(chat[-1:])
    if text.startswith("Question: "):
        return next((answer for question, answer, _ in wording.FACTS if question in text), "")
    if "You describe clips" in text_of(chat[:1]):
        return described(film, [float(t) for t in _CAPTION_TIME.findall(text)])
    times = [float(t) for t in _QA_TIME.findall(text)]
    pictures = [part for part in chat[-1].parts if isinstance(part, bytes)]
    legible = [t for t, p in zip(times, pictures, strict=True) if Image.open(io.BytesIO(p)).width >= LEGIBLE]
    if wording.FLOOR_QUERY in text:
        return film.floor
    if wording.FLASH_QUERY in text:
        return flashes(film, times)
    signs = [s.sign for s in film.scenes if s.sign and wording.sign_query(s.sign.colour) in text]
    return read(film, signs[0].colour, times, legible) if signs else wording.NOTHING


def described(film: Film, times: Sequence[float]) -> str:
    """The caption of the scenes that are on screen at the times."""
    return wording.summary(list({film.scene_at(time).start_s: film.scene_at(time) for time in times}.values()))


def read(film: Film, colour: str, times: Sequence[float], legible: Sequence[float]) -> str:
    """The word, where a legible frame shows it; else whether the sign is there, too small."""
    sign = film.sign(colour)
    if any(sign.shown[0] <= time < sign.shown[1] for time in legible):
        return sign.word
    there = any(film.scene_at(time).sign == sign for time in times)
    return wording.UNREADABLE if there and not legible else wording.NOTHING


def flashes(film: Film, times: Sequence[float]) -> str:
    """How often the lamp goes on from one frame to the next."""
    lamp = next(scene.lamp for scene in film.scenes if scene.lamp)
    on = [lamp.on(int(time * FPS + 0.05) / FPS) for time in times]
    count = sum(now and not before for before, now in zip([False, *on], on, strict=False))
    return COUNTS[count - 2] if 2 <= count <= 5 else wording.UNKNOWN
