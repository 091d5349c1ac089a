"""`zoomtrail generate --dry-run`: calls, tokens and a price."""

from collections import Counter
from collections.abc import Mapping
from itertools import islice

from rich.console import Console
from rich.table import Table

from pipeline.estimate import RoleEstimate, estimate
from pipeline.media.errors import VideoError
from pipeline.media.sandbox import open_video
from pipeline.sources import BadRow, load_questions, video_uri
from prompts.protocols import protocol
from schemas.config import Endpoint, RunConfig
from schemas.video import Video

MOST_PROBED = 40
"""Videos that are opened to learn their length and size; the others are taken to be like these."""


def print_estimate(config: RunConfig, limit: int | None) -> None:
    """Prints what a run would call, typically and at most. Opens videos, but calls no model and writes nothing."""
    questions = list(islice(load_questions(config.source), limit))
    wanted = Counter(q.video_id for q in questions if not isinstance(q, BadRow))
    n_bad = sum(isinstance(q, BadRow) for q in questions)
    n_attempts = sum(wanted.values()) * config.attempts
    print(f"{len(questions)} questions ({n_bad} unusable) on {len(wanted)} videos: {n_attempts} attempts")
    print_price(config, {video_id: count * config.attempts for video_id, count in wanted.items()})


def print_price(config: RunConfig, wanted: Mapping[str, int], captions: bool = True) -> None:
    """Prints what attempts would call. wanted: how many, by video; captions: whether these are yet to be made."""
    zoom = protocol(config.protocol)
    videos, faults = _probe(config, list(wanted))
    for fault in faults:
        print(f"  unusable video: {fault}")
    if not videos:
        print("no video could be opened, so nothing would be called")
        return
    usable = len(wanted) - len(faults) if len(wanted) <= MOST_PROBED else len(wanted)
    scale = usable / len(videos)
    attempts = [(video, wanted[video.video_id]) for video in videos]
    most = config.rollout.max_turns or zoom.default_max_turns
    typical = min(zoom.typical_turns, most)
    table = Table("role", "turns", "calls", "prompt tokens", "completion tokens", "price")
    for label, turns in ((f"typical: {typical}", typical), (f"at most: {most}", most)):
        for role in estimate(config, zoom, attempts, turns):
            if captions or role.role != "captioner":
                table.add_row(*_row(role, label if role.role == "teacher" else "", scale))
    Console().print(table)
    if isinstance(config.verifier, Endpoint):
        print("The calls of the verifier are not among them; what they cost is unknown.")
    print(
        "Pictures are counted as 28x28 pixels a token, text as 4 characters a token; retries and hints are not counted."
    )


def _probe(config: RunConfig, video_ids: list[str]) -> tuple[list[Video], list[str]]:
    videos, faults = [], []
    for video_id in video_ids[:MOST_PROBED]:
        try:
            with open_video(video_uri(config.source, video_id), video_id) as opened:
                videos.append(opened.video)
        except VideoError as error:
            faults.append(error.message)
    return videos, faults


def _row(role: RoleEstimate, turns: str, scale: float) -> list[str]:
    dollars = "unknown" if role.dollars is None else f"${role.dollars * scale:,.2f}"
    counts = (role.calls, role.prompt_tokens, role.completion_tokens)
    return [role.role, turns, *(f"{round(count * scale):,}" for count in counts), dollars]
