"""Which frames a zoom shows: those that its action says, or, where a protocol lets an embedder choose, those it finds.

The choice is TimeSearch-R's (`time_r1/utils/key_frame_selector_v2.py`): relevant to the query and unlike each other, as
the likeliest set of a determinantal point process, found greedily (Chen, Zhang, Zhou, NeurIPS 2018, arXiv 1709.05135).
"""

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.models.chat import Embedder
from pipeline.stages.videos import OpenVideos
from prompts.protocol import Setting, ZoomProtocol
from schemas.config import View
from schemas.trajectory import Action, Observation
from schemas.video import FramePlan

Choice = Literal["", "uniform", "searched"]
"""See `Observation.choice`."""

Numbers = npt.NDArray[np.float64]

_SPENT = 1e-9
"""A frame whose gain is below this is a copy of chosen ones, or the least relevant of all."""


@dataclass(frozen=True)
class Search:
    """Chooses frames within a view. embedder: None leaves them spread evenly."""

    protocol: ZoomProtocol
    view: View
    embedder: Embedder | None

    async def plan(self, action: Action, setting: Setting, videos: OpenVideos) -> tuple[FramePlan, Choice]:
        """The frames of a resolved action, and how they were chosen. Raises VideoError and what the embedder raises."""
        plan = self.view.zoom(self.protocol.zoom_plan(action, setting))
        candidates = self.protocol.candidates(action, setting)
        if candidates is None:
            return plan, ""
        if self.embedder is None or not action.query:
            return plan, "uniform"
        pictures = await videos.read(setting.video, candidates)
        vectors = await asyncio.to_thread(self.embedder.embed, [action.query], [p.jpeg for p in pictures])
        chosen = relevant_and_unlike(*vectors, count=len(plan.times_s or plan.indices or ()))
        indices = tuple(pictures[i].frame.index for i in chosen)
        return plan.model_copy(update={"times_s": None, "indices": indices}), "searched"

    async def again(
        self, action: Action, recorded: Observation | None, setting: Setting, videos: OpenVideos
    ) -> FramePlan:
        """The frames that a zoom must have shown, for its replay.

        Where it was searched and there is no embedder to search again: of those recorded the ones that it may have
        found, which are candidates, each once and in order of time, no more than were asked for.
        """
        candidates = self.protocol.candidates(action, setting)
        if recorded is None or recorded.choice != "searched" or candidates is None:
            return self.view.zoom(self.protocol.zoom_plan(action, setting))
        plan, choice = await self.plan(action, setting, videos)
        if choice == "searched":
            return plan
        allowed = set(await videos.indices(setting.video, candidates))
        found = [frame.index for frame in recorded.frames]
        if any(a >= b for a, b in pairwise(found)):
            return plan
        kept = [index for index in found if index in allowed][: len(plan.times_s or ())]
        return plan.model_copy(update={"times_s": None, "indices": tuple(kept)})


def relevant_and_unlike(query: npt.NDArray[np.float32], pictures: npt.NDArray[np.float32], count: int) -> list[int]:
    """The places, in order, of at most `count` pictures; all of them where there are no more.

    query: (1, d) and pictures: (n, d), unit vectors. The kernel is r_i s_ij r_j: s the cosine of two pictures, r that
    of a picture with the query, stretched to 0..1 over all pictures (1 where all are alike).
    """
    if len(pictures) <= count:
        return list(range(len(pictures)))
    vectors = pictures.astype(np.float64)
    relevance = vectors @ query[0].astype(np.float64)
    spread = np.ptp(relevance)
    relevance = (relevance - relevance.min()) / spread if spread > _SPENT else np.ones(len(vectors))
    return sorted(greedy_map(relevance[:, None] * (vectors @ vectors.T) * relevance, count))


def greedy_map(kernel: Numbers, count: int) -> list[int]:
    """At most `count` items, each the one that most raises the determinant of the chosen ones' kernel.

    kernel: (n, n), positive semidefinite. Algorithm 1 of Chen et al. (2018); it stops where nothing is left to gain.
    """
    rows = np.zeros((count, len(kernel)))
    gains = np.diag(kernel).copy()
    chosen: list[int] = []
    for step in range(min(count, len(kernel))):
        best = int(np.argmax(gains))
        if gains[best] < _SPENT:
            break
        rows[step] = (kernel[best] - rows[:step, best] @ rows[:step]) / np.sqrt(gains[best])
        gains = gains - rows[step] ** 2
        gains[best] = -np.inf
        chosen.append(best)
    return chosen
