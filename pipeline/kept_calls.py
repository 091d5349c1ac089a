"""The calls that a run has kept: what each cost, and which of them no row refers to any more."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow.compute as pc

from pipeline.models.calls import CallStore, Document
from pipeline.models.replies import usage_of
from pipeline.plan import Plan
from pipeline.prices import Prices
from pipeline.storage import StoredFile
from pipeline.store import RunStore
from schemas.captions import Usage
from schemas.config import STAGES
from schemas.errors import UserError

_THREADS = 16
_FOLDERS = 8
"""Folders of 256 gone through together: small ones are many at once, and of large ones few summaries are in memory."""

_CALL, _LEFTOVER = ".json", ".tmp"


@dataclass(frozen=True)
class KeptFile:
    """A file among the calls. changed_at: Unix seconds, None where the file system does not tell.

    kind: `call`; `finding` (about a server, without a reply); `damaged` (no call can be read from it; it would be made
    again); `leftover` (of a writer that was killed). role, model: "" where it is neither of the first two.
    """

    folder: str
    name: str
    kind: str
    role: str
    model: str
    bytes: int
    changed_at: float | None
    usage: Usage

    @property
    def key(self) -> str:
        return self.name.removesuffix(_CALL)


class KeptCalls:
    """The calls of a run. role, model: only those of these."""

    def __init__(self, run: RunStore, role: str | None = None, model: str | None = None) -> None:
        self._run = run
        self._calls = CallStore(run.url)
        self._role = role
        self._model = model
        self._prices = Prices(run)

    def each(self) -> Iterator[KeptFile]:
        """All files among the calls, in order of their keys. Memory grows with a few folders, not with the run."""
        return self._files(lambda name: True, lambda: None)

    def unreferred(self) -> Iterator[KeptFile]:
        """The files that no row of this finished run refers to, but for findings: later shards rely on these.

        Raises UserError where a shard is unfinished, a further verifier's too, or comes into being meanwhile: any call
        may be one of its.
        """
        parts = self._require_finished()
        referred = self._referred()
        found = self._files(lambda name: name.removesuffix(_CALL) not in referred, lambda: self._require_same(parts))
        return (file for file in found if file.kind != "finding")

    def remove(self, files: Sequence[KeptFile]) -> None:
        """Removes files. Raises Fatal where one cannot be removed."""
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda file: self._calls.remove(file.folder, file.name), files))

    def document(self, key: str) -> Document:
        """A call by its key, or by the beginning of it. Raises UserError where there is no such call, or several."""
        if len(key) < 4 or not key.isalnum():
            raise UserError(f"--show {key}: give at least four digits of a key; --list shows keys")
        names = [file.name for file in self._calls.files(key[:2]) if file.name.startswith(key)]
        if len(names) != 1:
            raise UserError(f"--show {key}: {len(names) or 'no'} calls of {self._run.url} have a key that begins so")
        document = self._calls.document(names[0].removesuffix(_CALL))
        if document is None:
            raise UserError(f"--show {key}: {self._calls.name(names[0].removesuffix(_CALL))} is damaged")
        return document

    def usage(self, document: Document) -> Usage:
        """What a call consumed, at the price that the run's config names; where a server counted nonsense, nothing."""
        price = self._prices.of(str(document.get("role")), _model(document))
        try:
            return usage_of(document["response"], price)
        except (TypeError, ValueError, AttributeError):
            return Usage(calls=1)

    def _files(self, wanted: Callable[[str], bool], check: Callable[[], None]) -> Iterator[KeptFile]:
        """Files by name. check: called when some have been listed, before any of them is handed out."""
        pool = ThreadPoolExecutor(_THREADS)
        folders = iter(self._calls.folders())
        try:
            while group := list(islice(folders, _FOLDERS)):
                listed = list(pool.map(self._calls.files, group))
                check()
                places = [
                    (f, file) for f, files in zip(group, listed, strict=True) for file in files if wanted(file.name)
                ]
                for kept in pool.map(lambda place: self._kept(*place), places):
                    if kept and self._role in (None, kept.role) and self._model in (None, kept.model):
                        yield kept
        finally:
            pool.shutdown(cancel_futures=True)

    def _kept(self, folder: str, file: StoredFile) -> KeptFile | None:
        """None for a file that is none of ours."""
        kind, role, model, usage = "leftover", "", "", Usage()
        if file.name.endswith(_CALL):
            kind, document = "damaged", self._calls.document(file.name.removesuffix(_CALL))
            if document is not None:
                kind = "call" if document["response"].get("choices") else "finding"
                role, model = str(document.get("role")), _model(document)
                usage = self.usage(document) if kind == "call" else Usage()
        elif not (file.name.startswith(".") and file.name.endswith(_LEFTOVER)):
            return None
        return KeptFile(folder, file.name, kind, role, model, file.bytes, file.changed_at, usage)

    def _require_finished(self) -> list[str]:
        """The names of the plan's parts. Raises UserError where not all that they plan is done, by every verifier."""
        parts = self._parts()
        planned = Plan(self._run).shards().keys()
        unfinished = {shard for stage in STAGES for shard in planned - self._run.finished(stage)}
        if unfinished or not parts:
            shards = f"{len(unfinished)} of {len(planned)} shards are unfinished" if parts else "nothing is planned yet"
            raise UserError(f"--prune: {shards}, and any call may be one of theirs; finish the run first")
        for further in self._further():
            if left := planned - further.finished("replay"):
                folder = further.folder("replay")
                raise UserError(
                    f"--prune: {len(left)} of {len(planned)} shards in {folder} are unfinished, and any call may be "
                    f"one of theirs; finish `verify --name {further.verifier}`, or remove {folder} to give it up"
                )
        return parts

    def _further(self) -> list[RunStore]:
        """The run as each of its further verifiers sees it."""
        return [RunStore(self._run.url, name) for name in self._run.verifiers()]

    def _require_same(self, parts: list[str]) -> None:
        if self._parts() != parts:
            raise UserError("--prune: the run grows meanwhile; finish it first")

    def _parts(self) -> list[str]:
        return self._run.storage.names("plan", ".parquet")

    def _referred(self) -> set[str]:
        """The keys that rows name."""
        keys: set[str] = set()
        for shard in self._run.finished("caption"):
            nodes = pc.list_flatten(self._run.table("caption", shard, ["nodes"])["nodes"])
            keys.update(_strings(nodes, "prompt_hash"))
        for shard in self._run.finished("teach"):
            turns = pc.list_flatten(self._run.table("teach", shard, ["turns"])["turns"])
            keys.update(_strings(turns, "call_key"))
            keys.update(_strings(pc.list_flatten(pc.struct_field(turns, "observations")), "call_key"))
        for store in (self._run, *self._further()):
            for shard in store.finished("replay"):
                verdicts = store.table("replay", shard, ["judge_call"])
                keys.update(*(column.to_pylist() for column in verdicts.columns))  # rows from before judges have none
        return keys


def _strings(structs: Any, field: str) -> list[str]:
    return list(pc.struct_field(structs, field).to_pylist())


def _model(document: Document) -> str:
    return str(document["request"].get("model", ""))
