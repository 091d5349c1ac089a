"""A small but real job for tests: rendered videos, questions with clue intervals, a job file."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.corpus import render_video

COLOURS = ("red", "green", "blue", "white")


def write_questions(path: Path, videos: list[str], per_video: int, seconds: float) -> None:
    """`per_video` multiple-choice questions on each video; every text is unique."""
    rows = [
        {
            "qid": f"{Path(video).stem}-{number}",
            "video": video,
            "question": f"Which colour does scene {number} of {video} have?",
            "choices": list(COLOURS),
            "answer": "ABCD"[number % 4],
            "clue_intervals": [
                [round(seconds * number / per_video, 2), round(seconds * (number + 0.5) / per_video, 2)]
            ],
        }
        for video in videos
        for number in range(per_video)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))


def write_job(
    folder: Path,
    base_url: str,
    protocol: str,
    n_videos: int = 2,
    per_video: int = 2,
    seconds: float = 12.0,
    broken: bool = False,
    **more: Any,
) -> Path:
    """A job file in `folder` with its videos and questions; `more` is merged into the job's sections.

    broken: adds a video that is cut off in the middle, with questions of its own.
    """
    videos = [f"clip{i}.mp4" for i in range(n_videos)]
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(videos):
        if not (folder / "videos" / name).exists():
            render_video(folder / "videos" / name, seconds, seed=seed)
    if broken:
        videos.append("broken.mp4")
        whole = (folder / "videos" / videos[0]).read_bytes()
        (folder / "videos" / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    write_questions(folder / "questions.jsonl", videos, per_video, seconds)
    model = {"model": "scripted", "base_url": base_url, "max_tokens": 500, "retries": 4}
    job: dict[str, Any] = {
        "protocol": protocol,
        "attempts": 2,
        "source": {"path": "questions.jsonl", "videos": "videos"},
        "teacher": dict(model),
        "workers": {"videos_per_shard": 1},
    }
    if protocol == "longvideo_r1":
        job["captioner"] = dict(model)
    for section, values in more.items():
        job[section] = {**job.get(section, {}), **values} if isinstance(values, dict) else values
    path = folder / f"{protocol}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path
