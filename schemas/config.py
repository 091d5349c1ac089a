"""The configuration of a run: what `job.yaml` may say, and which settings each stage depends on.

Unknown keys are errors. Secrets never stand here: a model names the environment variable that holds its key.
"""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from schemas.record import Record, content_id
from schemas.video import FramePlan
from schemas.workers import Workers

STAGES = ("caption", "teach", "replay")
DIRECTORIES = {"caption": "captions", "teach": "trajectories", "replay": "verdicts"}
"""Folder of a run that holds each stage's shards."""


class Source(Record):
    """Where questions and videos come from.

    format: `jsonl` (question, choices, answer, clue_intervals, video) or `cgbench` (CG-Bench's JSON).
    path: the annotation file; videos: the folder that video references are relative to; subtitles: folder of `.srt`
    files named as the videos, or None. Paths are relative to the job file.
    """

    format: Literal["jsonl", "cgbench"] = "jsonl"
    path: str
    videos: str
    subtitles: str | None = None


class Price(Record):
    """Dollars per million tokens.

    cached_input: for prompt tokens served from the provider's cache; image: for those of pictures, where the server
    counts them apart. Both are as `input` where they are left out.
    batch: what a call answered by a provider's batch costs, as a share of these (often 0.5); None: not known.
    """

    input: NonNegativeFloat
    output: NonNegativeFloat
    cached_input: NonNegativeFloat | None = None
    image: NonNegativeFloat | None = None
    batch: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def free(self) -> bool:
        """Whether a call costs nothing, however many tokens it has."""
        return not (self.input or self.output or self.cached_input or self.image)

    def dollars(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, image_tokens: int = 0
    ) -> float:
        """What a call costs. Cached and image tokens are part of the prompt tokens.

        No server says how many are both: cached ones are taken to be text first.
        """
        cached = min(cached_tokens, prompt_tokens)
        images = min(image_tokens, prompt_tokens - cached)
        cached_price = self.input if self.cached_input is None else self.cached_input
        image_price = self.input if self.image is None else self.image
        read = (prompt_tokens - cached - images) * self.input + cached * cached_price + images * image_price
        return (read + completion_tokens * self.output) / 1e6

    def most(self, prompt_tokens: int, completion_tokens: int, pictures: bool) -> float:
        """The most that a call may cost, whatever of its prompt a server counts as cached or as pictures."""
        read = max(self.input, self.cached_input or 0.0, (self.image or 0.0) if pictures else 0.0)
        return (prompt_tokens * read + completion_tokens * self.output) / 1e6

    def by_batch(self, dollars: float) -> float | None:
        """What calls of so many dollars cost where a batch answers them; None where that is not known."""
        return None if self.batch is None else dollars * self.batch


class Limits(Record):
    """What a provider allows, over all workers of a run together. None: no limit.

    requests_per_minute, tokens_per_minute: in every sliding minute; tokens are those read and written.
    in_flight: calls under way at once.
    """

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    in_flight: PositiveInt | None = None


class Budget(Record):
    """What the calls of a run may come to, over all its sessions. None: no bound. tokens: read and written."""

    dollars: PositiveFloat | None = None
    tokens: PositiveInt | None = None


class Endpoint(Record):
    """A model behind an OpenAI-compatible server (a provider, vLLM, SGLang).

    api_key_env: name of the environment variable that holds the key (a local server may need none).
    timeout_s: seconds for one call; retries: further tries of one call after a transient error.
    concurrency: calls in flight per worker. price: None means that cost is unknown, and shown so.
    identity: any word that tells this model apart from another of the same name (`awq` from `bf16`, one provider's
    build from another's). Replies are kept under the model's name and this word, not under the address: a server may
    move within a run, and a word that is changed makes it another model.
    limits: of all workers together; roles of the same model at the same URL with the same key share them.
    outage_s: seconds for which a run waits for a server that answers no call at all, before it stops.
    """

    backend: Literal["endpoint"] = "endpoint"
    model: str
    identity: str | None = None
    base_url: str
    api_key_env: str = "OPENAI_API_KEY"
    temperature: NonNegativeFloat | None = None
    top_p: PositiveFloat | None = None
    max_tokens: PositiveInt = 4096
    timeout_s: PositiveFloat = 300.0
    retries: int = Field(default=6, ge=0)
    concurrency: PositiveInt = 64
    price: Price | None = None
    limits: Limits = Limits()
    outage_s: NonNegativeFloat = 300.0

    @field_validator("base_url")
    @classmethod
    def _no_secret_in_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must start with http:// or https://")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "must not carry a user, password or query: put the key into the variable api_key_env names"
            )
        return url

    @field_validator("api_key_env")
    @classmethod
    def _no_key_for_a_name(cls, name: str) -> str:
        """The message does not repeat what may be the key itself."""
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError(
                "must be the name of an environment variable, such as OPENAI_API_KEY, never the key itself"
            )
        return name


class BatchEndpoint(Endpoint):
    """A model behind an OpenAI-compatible server of which no call waits for another.

    batch: it is asked by the provider's batches (`/files`, `/batches`): cheaper, and answered within a day. May be
    switched at any time: what is answered stays, and what a batch has not answered is then asked for live.
    """

    batch: bool = False

    @model_validator(mode="after")
    def _batch_price(self) -> "BatchEndpoint":
        if self.batch and self.price and self.price.batch is None:
            raise ValueError("price.batch is missing: the share of the price that a batch costs, such as 0.5")
        return self


class EndpointCaptioner(BatchEndpoint):
    """A captioner behind an OpenAI-compatible server."""


class EndpointJudge(BatchEndpoint):
    """A judge of open answers behind an OpenAI-compatible server.

    structured: its replies are held to yes and no by a JSON schema where the server takes one; false for a model that
    thinks in its text. A plain yes or no is understood in any case. leaks: whether it is also asked if the text of an
    attempt betrays a hint or the reference answer (`judge_hint_leak`, `judge_gold_leak`): one or two calls an attempt.
    """

    structured: bool = True
    leaks: bool = False


class Local(Record):
    """A vision-language model run by `transformers` in the worker: on the GPU where there is one, else on the CPU."""

    backend: Literal["local"] = "local"
    path: str
    device: str = "auto"
    dtype: str = "auto"
    temperature: NonNegativeFloat = 0.0
    max_tokens: PositiveInt = 512
    max_batch_tokens: PositiveInt = 16384


class Verifier(Local):
    """A local model that scores the choices of a question.

    answer_by: whether it names a choice by its letter or by its text. per_token: choices are compared by their mean
    log-probability per token instead of the sum; None: where they are named by their texts, which differ in length.
    permutations: in how many orders it is shown the choices, each turned on by one place; probabilities are their mean,
    so that a liking for a place cancels out. screens: whether it is also asked by four frames alone, and by frames in
    disorder (see `Verdict`). rollouts: answers to an open question that are drawn from it at temperature 1, for its
    `pass_rate`; 0 for none.
    """

    answer_by: Literal["letter", "text"] = "letter"
    per_token: bool | None = None
    permutations: PositiveInt = 1
    screens: bool = False
    rollouts: NonNegativeInt = 0

    @property
    def by_mean(self) -> bool:
        """Whether choices are compared by means."""
        return self.answer_by == "text" if self.per_token is None else self.per_token


class EndpointVerifier(Endpoint):
    """A verifier behind an OpenAI-compatible server: by log-probabilities where it gives them, else by samples.

    answer_by, permutations, screens, rollouts: as of a `Verifier`; a choice that is named by its text is always
    sampled. samples: answers to one probe, at temperature 1, since their shares stand for probabilities. structured:
    they are held to the choices by a JSON schema where the server takes one, so that none is lost in talk; not for a
    model that thinks in its text.
    """

    answer_by: Literal["letter", "text"] = "letter"
    permutations: PositiveInt = 1
    screens: bool = False
    rollouts: NonNegativeInt = 0
    samples: PositiveInt = 8
    structured: bool = False

    @model_validator(mode="after")
    def _as_it_is(self) -> "EndpointVerifier":
        if self.temperature not in (None, 1) or self.top_p not in (None, 1):
            raise ValueError("temperature and top_p must be left out: they would distort a verifier's probabilities")
        return self


class Demo(Record):
    """The embedded model of the demo, trained for its rendered videos: it captions, teaches, and verifies by text."""

    backend: Literal["demo"]
    answer_by: ClassVar[Literal["text"]] = "text"
    permutations: ClassVar[int] = 1
    screens: ClassVar[bool] = False


class DemoVerifier(Demo):
    """The embedded model as verifier. rollouts: as of a `Verifier`; per_token too, but not by default: the filter's
    thresholds were measured with whole texts, and its choices are of like length."""

    per_token: bool = False
    rollouts: NonNegativeInt = 0


ChatModelConfig = Annotated[Endpoint | Local | Demo, Field(discriminator="backend")]
CaptionerConfig = Annotated[EndpointCaptioner | Local | Demo, Field(discriminator="backend")]
VerifierConfig = Annotated[Verifier | EndpointVerifier | DemoVerifier, Field(discriminator="backend")]
JudgeConfig = Annotated[EndpointJudge | Local, Field(discriminator="backend")]


class Embedder(Record):
    """A model of CLIP's or SigLIP's class, run by `transformers` in the worker, that chooses frames by words.

    Only protocols with such a zoom use it (`timesearch_r`); without it their frames are spread evenly.
    """

    path: str
    device: str = "auto"
    dtype: str = "auto"


class View(Record):
    """How much of a video a model is shown at most, in frames and in pixels of their longest side.

    None: as the protocol was published; a number only ever narrows that. overview: before the first turn, and for a
    verifier; zoom: after an action; caption: for the caption of one segment.
    """

    overview_frames: PositiveInt | None = None
    overview_side: PositiveInt | None = None
    zoom_frames: PositiveInt | None = None
    zoom_side: PositiveInt | None = None
    caption_frames: PositiveInt | None = None
    caption_side: PositiveInt | None = None

    def overview(self, plan: FramePlan) -> FramePlan:
        """What is left of an overview's plan."""
        return plan.limited(self.overview_frames, self.overview_side)

    def zoom(self, plan: FramePlan) -> FramePlan:
        """What is left of the plan of a zoom or a `video_qa`."""
        return plan.limited(self.zoom_frames, self.zoom_side)

    def caption(self, plan: FramePlan) -> FramePlan:
        """What is left of the plan of a segment to caption."""
        return plan.limited(self.caption_frames, self.caption_side)


AS_PUBLISHED = View()
"""The view that narrows nothing."""


class Captions(Record):
    """min_width: least children per segment (LongVideo-R1: 4, and 3 for shorter benchmarks).

    reuse_from: an earlier run whose finished captions are taken over where its caption settings are the same.
    """

    min_width: int = Field(default=4, ge=2, le=8)
    reuse_from: str | None = None


class Rollout(Record):
    """max_turns: model turns allowed (None: as the protocol was published); max_invalid: invalid turns forgiven.

    hints: `off`, or LongVideo-R1's ladder `after_wrong_answer` (it shows the teacher where the clue intervals lie).
    reflect: where not 0, a rollout that zoomed and answered wrongly is handed to the teacher, which has so many turns
    to correct it (VideoZoomer: 2); it is not told the reference answer.
    """

    max_turns: PositiveInt | None = None
    max_invalid: int = Field(default=2, ge=0)
    hints: Literal["off", "after_wrong_answer"] = "off"
    reflect: NonNegativeInt = 0


MODEL_ROLES = ("captioner", "teacher", "student", "verifier", "judge")
"""Fields of a `RunConfig` that name a model to talk to."""


class RunConfig(Record):
    """A whole job. attempts: trajectories per question; may grow on a later run of the same directory.

    student: makes the rollouts, where one is named; the teacher then only reflects on the wrong ones.
    judge: says of answers to open questions whether they are right, where no rule does; without one they are wrong.
    budget: no call begins that could exceed it; a run that it stopped goes on where it is raised.
    """

    protocol: str = "videozoomer"
    attempts: PositiveInt = 2
    source: Source
    captioner: CaptionerConfig | None = None
    teacher: ChatModelConfig
    student: ChatModelConfig | None = None
    verifier: VerifierConfig | None = None
    judge: JudgeConfig | None = None
    embedder: Embedder | None = None
    view: View = AS_PUBLISHED
    captions: Captions = Captions()
    rollout: Rollout = Rollout()
    workers: Workers = Workers()
    budget: Budget = Budget()

    @model_validator(mode="before")
    @classmethod
    def _default_backend(cls, data: Any) -> Any:
        """`backend` may be left out: a `base_url` makes it an endpoint, a `path` a local model."""
        if isinstance(data, dict):
            data = dict(data)
            for role in MODEL_ROLES:
                model = data.get(role)
                if isinstance(model, dict) and "backend" not in model:
                    is_local = "path" in model or (role == "verifier" and "base_url" not in model)
                    data[role] = {"backend": "local" if is_local else "endpoint", **model}
        return data

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """By role."""
        models = {role: getattr(self, role) for role in MODEL_ROLES}
        return {role: model for role, model in models.items() if isinstance(model, Endpoint)}

    def relative_to(self, folder: Path) -> "RunConfig":
        """The same job with its local paths made absolute against the job file's folder."""

        def absolute(path: str | None) -> str | None:
            return path if path is None or "://" in path else str((folder / path).resolve())

        source = self.source.model_copy(
            update={field: absolute(getattr(self.source, field)) for field in ("path", "videos", "subtitles")}
        )
        captions = self.captions.model_copy(update={"reuse_from": absolute(self.captions.reuse_from)})
        models = {}
        for role in (*MODEL_ROLES, "embedder"):
            model = getattr(self, role)
            if isinstance(model, Local | Embedder) and (folder / model.path).exists():  # else a name on the hub
                models[role] = model.model_copy(update={"path": absolute(model.path)})
        return self.model_copy(update={"source": source, "captions": captions, **models})


_HOW_NOT_WHAT = {
    "timeout_s",
    "retries",
    "concurrency",
    "batch",
    "price",
    "limits",
    "outage_s",
    "base_url",
    "api_key_env",
    "device",
    "max_batch_tokens",
}
"""Settings that change how a model is reached or what it costs, but not what it says."""


_ADDED_LATER = {"permutations": 1, "screens": False, "identity": None, "structured": False, "rollouts": 0} | {
    "leaks": False
}
"""Settings that runs begun before them lack, with what they then were: left out where they still are that."""


def _model_settings(role: str, model: Endpoint | Local | Demo | Embedder | None) -> dict[str, Any]:
    if model is None:
        return {role: None}
    settings = {k: v for k, v in model.model_dump().items() if k not in _HOW_NOT_WHAT}
    return {f"{role}.{k}": v for k, v in settings.items() if k not in _ADDED_LATER or v != _ADDED_LATER[k]}


def _view_settings(view: View, *parts: str) -> dict[str, int]:
    """Of some parts of the view the limits that are set: a new limit leaves runs without it as they were."""
    limits = view.model_dump(exclude_none=True)
    return {f"view.{name}": limit for name, limit in limits.items() if name.startswith(parts)}


def stage_settings(config: RunConfig, protocol_version: str) -> dict[str, dict[str, Any]]:
    """For each stage the settings that its rows depend on, by dotted name. Later stages include the earlier ones'."""
    caption: dict[str, Any] = {
        "protocol": config.protocol,
        "protocol_version": protocol_version,
        "source.subtitles": config.source.subtitles,
        "captions.min_width": config.captions.min_width,
        **_model_settings("captioner", config.captioner),
        **_view_settings(config.view, "overview", "caption"),
    }
    teach = {
        **caption,
        "source.format": config.source.format,
        "source.path": config.source.path,
        **_model_settings("teacher", config.teacher),
        **{f"rollout.{k}": v for k, v in config.rollout.model_dump().items() if k != "reflect" or v},
        **_view_settings(config.view, "zoom"),
        **(_model_settings("student", config.student) if config.student else {}),
        **(_model_settings("embedder", config.embedder) if config.embedder else {}),
    }
    judge = _model_settings("judge", config.judge) if config.judge else {}
    replay = {**teach, **_model_settings("verifier", config.verifier), **judge}
    return {"caption": caption, "teach": teach, "replay": replay}


def fingerprint(settings: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for a stage's settings."""
    return content_id(settings, 16)


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`name: old -> new` for each setting that differs, sorted by name."""
    names = sorted(old.keys() | new.keys())
    return [f"{n}: {old.get(n)!r} -> {new.get(n)!r}" for n in names if old.get(n) != new.get(n)]
