"""`zoomtrail calls`: what a run has paid for, call by call if wanted; removes what no row refers to any more."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from rich.console import Console
from rich.progress import track

from jobs.tables import add_row, new_table, print_table, printable
from pipeline.driver_lock import driving
from pipeline.kept_calls import KeptCalls, KeptFile
from pipeline.models.calls import Document
from pipeline.models.replies import visible_text
from pipeline.store import RunStore
from schemas.captions import Usage
from schemas.errors import UserError

_AT_ONCE = 1000
"""Files removed together."""


@dataclass
class Sum:
    """What some calls of one role and model come to. oldest, newest: Unix seconds, None where not known."""

    files: int = 0
    bytes: int = 0
    usage: Usage = field(default_factory=Usage)
    oldest: float | None = None
    newest: float | None = None

    def add(self, file: KeptFile) -> None:
        self.files += 1
        self.bytes += file.bytes
        self.usage += file.usage
        if file.changed_at is not None:
            self.oldest = min(self.oldest or file.changed_at, file.changed_at)
            self.newest = max(self.newest or file.changed_at, file.changed_at)

    def as_json(self) -> dict[str, Any]:
        usage = self.usage.model_dump(exclude={"calls"})
        return {"files": self.files, "bytes": self.bytes, "oldest": self.oldest, "newest": self.newest, **usage}


Sums = dict[tuple[str, str, str], Sum]
"""By kind, role and model."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of the calls. show: a key or its beginning; limit: calls listed at most; yes: prune for good."""

    list: bool = False
    show: str | None = None
    prune: bool = False
    yes: bool = False
    role: str | None = None
    model: str | None = None
    limit: int = 50
    as_json: bool = False


def calls(run: str, wanted: Wanted) -> None:
    """Prints what the kept calls of a run come to, lists them, shows one, or removes those that no row refers to.

    Raises UserError where the run is none or is not in a state for that, or where a process works on it while some are
    to be removed.
    """
    if wanted.list + wanted.prune + (wanted.show is not None) > 1:
        raise UserError("give one of --list, --show and --prune")
    if wanted.yes and not wanted.prune:
        raise UserError("--yes is for --prune")
    kept = KeptCalls(RunStore(run).require(), wanted.role, wanted.model)
    if wanted.show is not None:
        document = kept.document(wanted.show)
        print(json.dumps(document, indent=2) if wanted.as_json else _readable(document, kept.usage(document)))
    elif wanted.list:
        for file in islice(kept.each(), wanted.limit):
            print(json.dumps(_entry(file)) if wanted.as_json else _line(file))
    elif wanted.prune:
        _prune(run, kept, wanted)
    else:
        _print_sums(run, summed(_shown(kept.each())), wanted.as_json)


def summed(files: Iterable[KeptFile]) -> Sums:
    """What files come to."""
    sums: Sums = {}
    for file in files:
        sums.setdefault((file.kind, file.role, file.model), Sum()).add(file)
    return dict(sorted(sums.items()))


def _shown(files: Iterator[KeptFile]) -> Iterable[KeptFile]:
    """The files, counted on the terminal while they are read."""
    console = Console(stderr=True)
    return track(files, "reading calls", console=console, transient=True, disable=not console.is_terminal)


def _prune(run: str, kept: KeptCalls, wanted: Wanted) -> None:
    with driving(run) if wanted.yes else nullcontext():
        files = _shown(kept.unreferred())
        sums = summed(_removed(kept, files) if wanted.yes else files)
    if wanted.as_json:
        print(json.dumps({"run": run, "removed": wanted.yes, "files": _sums_as_json(sums)}, indent=2))
        return
    if sums:
        _print_sums(run, sums, False)
    count, size = sum(one.files for one in sums.values()), sum(one.bytes for one in sums.values())
    what = f"{count:,} files ({size:,} bytes) that no row refers to"
    print(f"removed {what}" if wanted.yes else f"{what}; `--prune --yes` removes them")


def _removed(kept: KeptCalls, files: Iterable[KeptFile]) -> Iterator[KeptFile]:
    """The files, each removed before it is handed on."""
    left = iter(files)
    while some := list(islice(left, _AT_ONCE)):
        kept.remove(some)
        yield from some


def _print_sums(run: str, sums: Sums, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"run": run, "files": _sums_as_json(sums)}, indent=2))
        return
    plain = not sys.stdout.isatty()
    console = Console(highlight=False, width=200 if plain else None, no_color=plain)
    numbers = ("calls", "bytes", "read", "of them cached", "written", "dollars")
    table = new_table(f"Kept calls of {printable(run)}", ("role", "model"), (*numbers, "oldest", "newest"))
    for (kind, role, model), one in sums.items():
        who = (role, model) if kind == "call" else (f"({kind})", model)
        tokens = (one.usage.prompt_tokens, one.usage.cached_tokens, one.usage.completion_tokens)
        counts = (f"{n:,}" for n in (one.files, one.bytes, *tokens))
        add_row(table, *who, *counts, _dollars(one.usage), _time(one.oldest), _time(one.newest))
    print_table(console, table, plain)


def _sums_as_json(sums: Sums) -> list[dict[str, Any]]:
    return [{"kind": kind, "role": role, "model": model, **one.as_json()} for (kind, role, model), one in sums.items()]


def _entry(file: KeptFile) -> dict[str, Any]:
    about = {name: getattr(file, name) for name in ("key", "kind", "role", "model", "bytes", "changed_at")}
    return {**about, **file.usage.model_dump(exclude={"calls"})}


def _line(file: KeptFile) -> str:
    tokens = f"{file.usage.prompt_tokens}+{file.usage.completion_tokens} tokens"
    what = f"{file.role} {file.model} {tokens} {_dollars(file.usage)}" if file.kind == "call" else f"({file.kind})"
    return printable(f"{file.key} {_time(file.changed_at)} {file.bytes} bytes {what}")


def _readable(document: Document, usage: Usage) -> str:
    """A call as text: the request with its images named, then the reply. Nothing in it can steer a terminal."""
    request, response = document["request"], document["response"]
    lines = [f"{name}: {document.get(name)}" for name in ("key", "role")]
    lines += [f"{name}: {json.dumps(value)}" for name, value in request.items() if name != "messages"]
    for message in request.get("messages") or ():
        lines += ["", f"--- {message['role']}", *_parts(message["content"])]
    lines += ["", *_reply(response), ""]
    lines += [f"read {usage.prompt_tokens}, written {usage.completion_tokens} tokens; dollars: {_dollars(usage)}"]
    return "\n".join(printable(line) for line in "\n".join(lines).split("\n"))


def _parts(content: str | list[dict[str, Any]]) -> list[str]:
    """Of a request as `pipeline/models/request.py` makes it."""
    if isinstance(content, str):
        return [content]
    return [part["text"] if part["type"] == "text" else f"[image {part['image_url']['url']}]" for part in content]


def _reply(response: dict[str, Any]) -> list[str]:
    """Reasoning and text of a reply; all of it as JSON where it is not formed as a completion."""
    try:
        choice = response["choices"][0]
        said = choice["message"]
        reasoning = said.get("reasoning_content") or said.get("reasoning")
        text = visible_text(response)
    except (LookupError, TypeError, AttributeError):
        return ["--- reply", json.dumps(response, indent=2)]
    thought = ["--- reasoning", str(reasoning), ""] if reasoning else []
    return [*thought, f"--- reply ({choice.get('finish_reason')})", text]


def _dollars(usage: Usage) -> str:
    return "unknown" if usage.calls and usage.cost_usd is None else f"{usage.cost_usd or 0:.4f}"


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
