"""What the verifier reads for its probabilities: one prefill for all of a video, against one for each of them.

64 overview frames, 4 attempts at a question with 3 zooms of 16 frames, by the product's own verifier stage; pictures
are mosaics. Side by side, in rounds: `shared`, the product; `kept features`, a prefill for each probability that still
encodes each picture once; `separate`, a prefill for each that starts from pixels. Figures are medians of the rounds.

    python -m tests.benchmarks.replay [--quick] [--json FILE]          on the CPU, with the embedded model
    python -m tests.benchmarks.replay --model qwen_7b [--json FILE]    on a GPU, random weights, Qwen2.5-VL-7B's shape

Exit status 1 where, on the CPU, `shared` reads not 3 times fewer tokens than `separate`, or takes not 2.5 times less
time, or where its probabilities differ by more than 1e-3 (float32; in bfloat16 the difference is told). On a GPU there
is no bar: what is possible follows from the count of tokens, which is told. For each way the share of the time in which
the model worked (on a GPU by its own events), and on a GPU peak memory; for `shared` also how long it waited for
pictures to be decoded and resized, and on a GPU its tokens a second as a share of one plain prefill's.
"""

import argparse
import asyncio
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.models.chat import ChoiceQuestion, Pictures, Scores
from pipeline.models.encoding import ChatEncoder
from pipeline.models.features import PicturePixels, tried_features
from pipeline.models.pictures_ahead import PicturesAhead
from pipeline.models.prefill import SeparatePrefill, asked_of
from pipeline.models.scoring import softmax
from pipeline.models.shared_prefill import SharedPrefill, tried_sharing
from pipeline.stages.verify import Columns, Replayed, Verifier
from prompts.judging import ONCE_BY_LETTER
from schemas.captions import Picture
from schemas.video import Frame
from tests.benchmarks.model_clock import CpuClock, GpuClock, watch
from tests.benchmarks.replay_count import possible
from tests.benchmarks.replay_models import MODELS, NEED_GPU
from tests.stages.test_checks import ANSWER, trajectory, turn, zoom

OVERVIEW, ATTEMPTS, ZOOMS, ZOOM_FRAMES = 64, 4, 3, 16
SIZES = {"small": ((224, 126), (448, 252)), "qwen_7b": ((448, 252), (448, 252))}
"""Of the pictures of an overview and of a zoom. The embedded model makes as many tokens of each."""

TOKENS_BAR, TIME_BAR, EXACT = 3.0, 2.5, 1e-3
Sizes = tuple[tuple[int, int], tuple[int, int]]
PROBABILITIES = ("p_gold_blind", "p_gold_overview", "p_gold_evidence", "p_gold_zooms_only")


class Scorer:
    """A verifier made of a prefill. one_by_one: a call of it for each probe, so that nothing is shared. ahead: prepares
    its pictures, where it does not do so itself."""

    name = "benchmark"

    def __init__(
        self,
        prefill: SharedPrefill | SeparatePrefill,
        encoder: ChatEncoder,
        one_by_one: bool,
        ahead: PicturesAhead | None = None,
    ) -> None:
        self._prefill, self._encoder, self._one_by_one, self._ahead = prefill, encoder, one_by_one, ahead
        self.possible = 1.0

    @property
    def waited_s(self) -> float:
        return self._ahead.waited_s if self._ahead else 0.0

    @property
    def tokens_read(self) -> int:
        return self._prefill.tokens_read

    def score(self, probes: Sequence[ChoiceQuestion]) -> Scores:
        before, waited_before = self.tokens_read, self.waited_s
        asked = asked_of(self._encoder, probes)
        self.possible = possible(self._encoder, asked)
        calls = [[each] for each in asked] if self._one_by_one else [asked]
        scored = [one for call in calls for one in self._prefill.log_probabilities(call)]
        probabilities = [softmax([sum(logs) for logs in of_choices]) for of_choices in scored]
        return Scores(probabilities, self.tokens_read - before, self.waited_s - waited_before)


class Case:
    """A video's pictures and the attempts at one question about it; new pictures for each round."""

    def __init__(self, seed: int, frames: tuple[int, int], sizes: Sizes) -> None:
        """frames: of the overview, of a zoom; sizes: of their pictures."""
        overview, zoom_frames = frames
        self._dice, self._sizes = np.random.default_rng(seed), sizes
        self._pictures: list[Picture] = []
        self.overview = tuple(self._frame(i, float(i), sizes[0]) for i in range(overview))
        self.attempts = [self._attempt(number, zoom_frames) for number in range(ATTEMPTS)]
        self.pictures = Pictures(self._pictures)

    def _attempt(self, number: int, zoom_frames: int) -> Replayed:
        turns = [turn("", zoom(10 * k, 10 * k + 8, k)) for k in range(ZOOMS)]
        base = 1000 * (number + 1)
        frames = {
            f"{k}.0": tuple(
                self._frame(base + 100 * k + i, 10 * k + i / 2 + number / 100, self._sizes[1])
                for i in range(zoom_frames)
            )
            for k in range(ZOOMS)
        }
        made = trajectory(*turns, ANSWER)
        return Replayed(made.model_copy(update={"trajectory_id": f"q-1@{number}", "attempt": number}), frames)

    def _frame(self, index: int, time_s: float, size: tuple[int, int]) -> Frame:
        frame = Frame(index=index, time_s=time_s, hash="", width=size[0], height=size[1])
        colours = self._dice.integers(0, 256, (size[1] // 14, size[0] // 14, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(out, "JPEG", quality=90)
        self._pictures.append(Picture(frame=frame, jpeg=out.getvalue()))
        return frame


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replay")
    parser.add_argument("--quick", action="store_true", help="a quarter of the frames, one round")
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--batch-tokens", type=int, default=16384, help="tokens of a batch at most, on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    if arguments.model in NEED_GPU and not torch.cuda.is_available():
        raise SystemExit(f"--model {arguments.model} needs a GPU, and torch finds none here")
    model, encoder = MODELS[arguments.model]()
    overview, zoom_frames = (OVERVIEW // 4, ZOOM_FRAMES // 4) if arguments.quick else (OVERVIEW, ZOOM_FRAMES)
    rounds = 1 if arguments.quick else arguments.rounds
    figures = measured(
        model, encoder, arguments.batch_tokens, rounds, ((overview, zoom_frames), SIZES[arguments.model])
    )
    report(Console(width=140), figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["met"] else 1


def measured(
    model: Any, encoder: ChatEncoder, batch_tokens: int, rounds: int, of_case: tuple[tuple[int, int], Sizes]
) -> dict[str, Any]:
    """Figures of each way: tokens and median seconds for all attempts at a question; and whether the bars are met."""
    gpu = model.device.type == "cuda"

    def shared(one_by_one: bool) -> Scorer:
        ahead = PicturesAhead(encoder)
        sight = tried_features(model, encoder, ahead) or PicturePixels(model, ahead)
        found = tried_sharing(model, encoder, sight, batch_tokens)
        assert found is not None, "this model's prefixes cannot be shared"
        return Scorer(found, encoder, one_by_one, ahead)

    ways: dict[str, Callable[[], Scorer]] = {
        "shared": lambda: shared(one_by_one=False),
        "kept features": lambda: shared(one_by_one=True),
        "separate": lambda: Scorer(SeparatePrefill(model, encoder), encoder, one_by_one=True),
    }
    clock = GpuClock() if gpu else CpuClock()
    watch(model, clock)
    runs: dict[str, list[Timed]] = {way: [] for way in ways}
    for number in range(rounds + 1):  # the first warms up
        case = Case(number, *of_case)
        for way, make in ways.items():
            runs[way].append(timed(make(), case, clock))
    figures: dict[str, Any] = {
        way: {
            "seconds": median(one.seconds for one in of_way[1:]),
            "waited_s": median(one.waited_s for one in of_way[1:]),
            "tokens": of_way[-1].tokens,
            "in_model": median(one.in_model_s / one.seconds for one in of_way[1:]),
            "peak_gib": max(one.peak_gib for one in of_way[1:]),
        }
        for way, of_way in runs.items()
    }
    own, other = figures["shared"], figures["separate"]
    figures |= {
        "attempts": ATTEMPTS,
        "dtype": str(model.dtype).removeprefix("torch."),
        "possible": runs["shared"][-1].possible,
        "fewer_tokens": other["tokens"] / own["tokens"],
        "less_time": other["seconds"] / own["seconds"],
        "difference": max(
            difference(a.columns, b.columns) for a, b in zip(runs["shared"], runs["separate"], strict=True)
        ),
        "attempts_per_s": ATTEMPTS / own["seconds"],
    }
    if gpu:
        figures |= on_gpu(model, own)
    exact = figures["difference"] <= EXACT or model.dtype != torch.float32
    fast = figures["fewer_tokens"] >= TOKENS_BAR and figures["less_time"] >= TIME_BAR
    figures["met"] = exact and (fast or gpu)
    return figures


@dataclass(frozen=True)
class Timed:
    """Of the verifier for all attempts. waited_s: of the seconds, those that the model waited for pictures; in_model_s:
    those in which it worked. possible: see there."""

    seconds: float
    waited_s: float
    in_model_s: float
    peak_gib: float
    tokens: int
    possible: float
    columns: list[Columns]


def timed(scorer: Scorer, case: Case, clock: GpuClock | CpuClock) -> Timed:
    """A new scorer knows no picture yet; its own trials count for nothing."""
    clock.taken()
    before, waited_before, began = scorer.tokens_read, scorer.waited_s, time.perf_counter()
    found = asyncio.run(Verifier(scorer, ONCE_BY_LETTER).columns(case.attempts, case.overview, case.pictures))
    in_model_s, peak_gib = clock.taken()
    seconds = time.perf_counter() - began
    columns = [one for one in found if isinstance(one, dict)]
    waited_s, tokens = scorer.waited_s - waited_before, scorer.tokens_read - before
    return Timed(seconds, waited_s, in_model_s, peak_gib, tokens, scorer.possible, columns)


def difference(these: Sequence[Columns], those: Sequence[Columns]) -> float:
    """The largest between two ways' probabilities."""
    pairs = [
        (a, b) for one, other in zip(these, those, strict=True) for a, b in zip(_all(one), _all(other), strict=True)
    ]
    return max(abs(a - b) for a, b in pairs)


def _all(columns: Columns) -> list[float]:
    return [*(columns[name] for name in PROBABILITIES), *columns["p_gold_steps"]]


def on_gpu(model: Any, own: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second, against one plain causal prefill of 16,384 text tokens on the same card."""
    tokens = torch.randint(0, 300, (1, 16384), device=model.device)
    seconds = []
    for _ in range(4):
        torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=False, logits_to_keep=1)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    plain = tokens.shape[1] / median(seconds[1:])
    reached = own["tokens"] / own["seconds"]
    return {
        "tokens_per_s": reached,
        "plain_tokens_per_s": plain,
        "share_of_plain": reached / plain,
        "card": torch.cuda.get_device_name(),
    }


def report(console: Console, figures: dict[str, Any]) -> None:
    """A table of the ways, and the bars."""
    table = Table(title=f"all probabilities of {figures['attempts']} attempts at a question, {figures['dtype']}")
    for column in ("prefill", "tokens", "seconds", "seconds an attempt", "in the model", "peak GiB"):
        table.add_column(column, justify="left" if column == "prefill" else "right")
    for way in ("shared", "kept features", "separate"):
        one = figures[way]
        seconds = [f"{one['seconds']:.2f}", f"{one['seconds'] / figures['attempts']:.2f}"]
        peak = f"{one['peak_gib']:.1f}" if one["peak_gib"] else "-"
        table.add_row(way, f"{one['tokens']:,}", *seconds, f"{one['in_model']:.1%}", peak)
    console.print(table)
    bars = ("", "") if "card" in figures else (f" (bar {TOKENS_BAR})", f" (bar {TIME_BAR})")
    console.print(
        f"shared against separate: {figures['fewer_tokens']:.2f} times fewer tokens{bars[0]}, of "
        f"{figures['possible']:.2f} that the count allows; {figures['less_time']:.2f} times less time{bars[1]}; "
        f"probabilities differ by {figures['difference']:.1e} at most"
    )
    console.print(f"shared: waited for pictures for {figures['shared']['waited_s']:.2f} s")
    if "card" in figures:
        console.print(
            f"{figures['card']}: {figures['attempts_per_s']:.2f} attempts/s, {figures['tokens_per_s']:,.0f} tokens/s, "
            f"{figures['share_of_plain']:.0%} of one plain prefill's"
        )
    console.print("every bar met" if figures["met"] else "[red]a bar is missed[/red]")


if __name__ == "__main__":
    sys.exit(main())
