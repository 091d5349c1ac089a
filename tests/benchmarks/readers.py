"""Which reader gives which frame: decord, a plain PyAV seek, and ours, on every kind of file, by seeks in random order.

A wrong frame is one whose bar code (in real files: whose brightness) is another frame's; a refused one, an exception.
Run: python -m tests.benchmarks.readers [--quick] [--json FILE]. Exit status 1 where ours gives one wrong frame.
Real files are added where ../shared/data lies beside the checkout.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.media.errors import VideoError
from pipeline.media.sandbox import open_video
from schemas.video import FramePlan, PixelBudget
from tests.corpus import KINDS, Kind, encode, hide_start, linear_frames, read_barcode

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = (
    "videos/screencast_tutorial_1080p.mp4",
    "videos/agent327_360p.mp4",
    "videos/intel_bottle_av1_derived.mkv",
    "videos/mdn_crystal.webm",
    "bad/bframes_open_gop.mp4",
    "bad/vfr_irregular.mp4",
    "bad/torchcodec_bt2020_10bit_hevc.mp4",
    "bad/rotated_90_displaymatrix.mp4",
)
TOLERANCE = 6.0
"""Mean difference in brightness (0..255) up to which a real frame counts as the right one."""

GRID = (64, 64)

Pixels = npt.NDArray[np.uint8]
Reader = Callable[[Path, Sequence[int], Callable[[int, Pixels], bool]], tuple[int, int]]
"""(path, frame indices, whether a picture is the frame of an index) -> (wrong, refused)."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.readers")
    parser.add_argument("--quick", action="store_true", help="fewer frames and seeks, short real files only")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    count, seeks = (120, 10) if arguments.quick else (400, 40)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path, hidden in _corpus(Path(folder), count):
            rows.append(_row(name, path, count - hidden, seeks, _is_barcode(hidden)))
    for path in _real_files(arguments.quick):
        with open_video(str(path)) as video:
            shown = video.video.n_frames
        rows.append(_row(path.name, path, shown, seeks // 2, _is_like(path, _indices(path.name, shown, seeks // 2))))
    _show(rows, seeks)
    wrong = sum(row["ours"]["wrong"] for row in rows)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"rows": rows, "wrong_in_ours": wrong, "met": wrong == 0}, indent=2) + "\n"
        )
    return 0 if wrong == 0 else 1


def _corpus(folder: Path, count: int) -> list[tuple[str, Path, int]]:
    """(name, file, frames hidden at the start) of every kind, and of one with an edit list."""
    made = []
    for number, kind in enumerate(KINDS):
        made.append((kind.name, _encode(folder / f"{number}{kind.suffix}", kind, count), 0))
    hide_start(made[0][1], folder / "hidden.mp4", 7 * 3600)
    return [*made, ("h264 edit list", folder / "hidden.mp4", 7)]


def _encode(path: Path, kind: Kind, count: int) -> Path:
    encode(path, count, kind)
    return path


def _real_files(quick: bool) -> list[Path]:
    paths = [DATA / name for name in REAL if (DATA / name).exists()]
    return [path for path in paths if not quick or path.stat().st_size < 1_000_000]


def _row(name: str, path: Path, count: int, seeks: int, right: Callable[[int, Pixels], bool]) -> dict[str, Any]:
    indices = _indices(name, count, seeks)
    row: dict[str, Any] = {"file": name, "seeks": seeks}
    for reader, read in READERS.items():
        wrong, refused = read(path, indices, right)
        row[reader] = {"wrong": wrong, "refused": refused}
    return row


def _indices(name: str, count: int, seeks: int) -> list[int]:
    """Random frame indices, the same whenever a file is measured."""
    return random.Random(name).choices(range(count), k=seeks)


def _is_barcode(hidden: int) -> Callable[[int, Pixels], bool]:
    return lambda index, picture: read_barcode(picture) == index + hidden


def _is_like(path: Path, indices: Sequence[int]) -> Callable[[int, Pixels], bool]:
    """Compares with plain decoding from the start; pictures may be turned."""
    frames = enumerate(linear_frames(path, max(indices) + 1))
    expected = {index: _brightness(frame.to_ndarray(format="rgb24")) for index, frame in frames if index in indices}

    def is_like(index: int, picture: Pixels) -> bool:
        turned = (np.rot90(_brightness(picture), quarter) for quarter in range(4))
        return min(float(np.abs(turn - expected[index]).mean()) for turn in turned) < TOLERANCE

    return is_like


def _brightness(picture: Pixels) -> npt.NDArray[np.float32]:
    """A picture's green on a grid that every size shares."""
    height, width = picture.shape[:2]
    rows = np.linspace(0, height - 1, GRID[1]).round().astype(int)
    columns = np.linspace(0, width - 1, GRID[0]).round().astype(int)
    return picture[rows][:, columns, 1].astype(np.float32)


def read_decord(path: Path, indices: Sequence[int], right: Callable[[int, Pixels], bool]) -> tuple[int, int]:
    """decord 0.6, one frame at a time."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    wrong = refused = 0
    try:
        reader = decord.VideoReader(str(path))
    except (decord.DECORDError, RuntimeError):
        return 0, len(indices)
    for index in indices:
        try:
            wrong += not right(index, reader[index].asnumpy())
        except (decord.DECORDError, RuntimeError, IndexError):
            refused += 1
    return wrong, refused


def read_naive(path: Path, indices: Sequence[int], right: Callable[[int, Pixels], bool]) -> tuple[int, int]:
    """What most scripts do: seek to index / rate, then the first decoded frame that is not earlier."""
    wrong = refused = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None and stream.time_base is not None
        for index in indices:
            target = (stream.start_time or 0) + round(index / stream.average_rate / stream.time_base)
            try:
                container.seek(target, stream=stream)
                later = (frame for frame in container.decode(stream) if frame.pts is not None and frame.pts >= target)
                frame = next(later, None)
                refused += frame is None
                wrong += frame is not None and not right(index, frame.to_ndarray(format="rgb24"))
            except av.FFmpegError:
                refused += 1
    return wrong, refused


def read_ours(path: Path, indices: Sequence[int], right: Callable[[int, Pixels], bool]) -> tuple[int, int]:
    """SafeVideo, a read of its own for each frame."""
    wrong = refused = 0
    try:
        with open_video(str(path)) as video:
            for index in indices:
                (picture,) = video.read(FramePlan(budget=PixelBudget(), indices=(index,)))
                wrong += not right(index, np.asarray(Image.open(BytesIO(picture.jpeg)).convert("RGB")))
    except VideoError:
        refused = len(indices)
    return wrong, refused


READERS: dict[str, Reader] = {"decord": read_decord, "naive PyAV": read_naive, "ours": read_ours}


def _show(rows: Sequence[dict[str, Any]], seeks: int) -> None:
    table = Table(title=f"Frames by seeks in random order: wrong / refused of {seeks} ({seeks // 2} in real files)")
    table.add_column("file")
    for reader in READERS:
        table.add_column(reader, justify="right")
    for row in rows:
        cells = [f"{row[reader]['wrong']} / {row[reader]['refused']}" for reader in READERS]
        table.add_row(row["file"], *cells)
    totals = [f"{sum(r[k]['wrong'] for r in rows)} / {sum(r[k]['refused'] for r in rows)}" for k in READERS]
    table.add_section()
    table.add_row("all", *totals)
    console = Console()
    console.print(table)
    bar_met = all(row["ours"]["wrong"] == 0 for row in rows)
    console.print("bar met: no wrong frame in ours" if bar_met else "[red]bar missed: a wrong frame in ours[/red]")


if __name__ == "__main__":
    sys.exit(main())
