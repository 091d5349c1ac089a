"""Where a cut comes from: what decides its bytes, and every shard that it was drawn from."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.shards.condition import Condition
from pipeline.shards.digests import footer_digests
from pipeline.shards.formats.layout import Media
from pipeline.shards.funnel import Funnel
from pipeline.shards.order import Order
from pipeline.shards.reading import ShardFile
from pipeline.shards.table import Rows
from schemas.errors import UserError
from schemas.record import SCHEMA_VERSION, canonical_json, content_id

LINEAGE = "lineage.json"

CONTENT = "content"
"""What cuts of earlier versions do not tell in their identity."""


def digests(rows: Rows) -> dict[str, str]:
    """Of all files that the rows are drawn from, the plan's among them, by name: see `footer_digests`."""
    shards = [rows.store.shard_name(file.stage, file.shard) for file in rows.files]
    return footer_digests(rows.store.storage, [*rows.plan, *shards])


def identity(
    rows: Rows, order: Order, condition: Condition, media: Media, digests: Mapping[str, str]
) -> dict[str, str]:
    """All that decides the bytes of a cut: two cuts with equal identities are equal."""
    own = rows.fingerprints["replay"]
    inputs = [
        [file.stage, file.shard, file.rows, file.size, *({rows.fingerprints_of(file.shard)["replay"]} - {own})]
        for file in _inputs(rows)
    ]
    found = {
        "kind": order.kind,
        "format": order.format.name,
        "media": media,
        "learn": order.learn,
        "preset": order.condition.name,
        "condition": condition.sql,
        "rows_per_file": str(order.most_rows),
        "test_share": str(order.test_share),
        "seed": str(order.seed),
        "tokenizer": order.tokenizer,
        "max_tokens": str(order.max_tokens),
        "schema_version": str(SCHEMA_VERSION),
        "run_fingerprint": own,
        "shards": str(sum(file.stage == "teach" for file in rows.files)),
        "inputs": content_id(inputs, 16),
        CONTENT: content_id(list(digests.items())),
    }
    # What is left out where it is not asked for, so that cuts made before there was such a thing are known again.
    later = {"thinning": condition.thinning.asked, "bytes_per_file": order.bytes_per_file}
    return found | {name: canonical_json(value) for name, value in later.items() if value}


def require_same(name: str, existing: dict[str, str] | None, identity: dict[str, str]) -> None:
    """Raises UserError where the cut of a name is another one. existing: its identity, None where no cut wrote it."""
    if existing is None:
        raise UserError(f"cuts/{name} has a README.md that no cut wrote: choose another name")
    told = (existing.keys() | identity.keys()) - ({CONTENT} - existing.keys())
    different = sorted(key for key in told if existing.get(key) != identity.get(key))
    if different:
        grown = set(different) <= {"inputs", "shards", CONTENT}
        why = "was cut before the run grew" if grown else f"differs in {', '.join(different)}"
        raise UserError(f"the cut {name} exists and {why}: choose another name, or delete cuts/{name}")


def lineage(
    rows: Rows,
    condition: Condition,
    identity: dict[str, str],
    digests: Mapping[str, str],
    found: Funnel,
    written: dict[str, Any],
) -> bytes:
    """The file that tells a program where a cut comes from. written: rows of each split, and those not written."""
    kept = {row["shard"]: row["n"] for row in rows.query("SELECT shard, count(*) AS n FROM kept GROUP BY 1")}
    document = {
        "run": rows.store.url.rstrip("/").rsplit("/", 1)[-1],
        "identity": identity,
        "fingerprints": rows.fingerprints,
        "generations": rows.generations,
        "condition": [asdict(clause) for clause in condition.clauses],
        "thinning": condition.thinning.asked,
        "planned": found.planned,
        "reached": found.reached,
        "spared": found.spared,
        "losses": [{"level": loss.level, "reason": loss.reason, "attempts": loss.rows} for loss in found.losses],
        "written": written,
        "plan": [{"file": name, "footer_sha256": digests[name]} for name in rows.plan],
        "shards": [_shard(file, kept, digests[rows.store.shard_name(file.stage, file.shard)]) for file in rows.files],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _inputs(rows: Rows) -> list[ShardFile]:
    return [file for file in rows.files if file.stage != "caption"]


def _shard(file: ShardFile, kept: dict[int, int], digest: str) -> dict[str, Any]:
    """kept: rows of its attempts that the cut keeps."""
    found = {
        "stage": file.stage,
        "shard": file.shard,
        "rows": file.rows,
        "bytes": file.size,
        "footer_sha256": digest,
        "fingerprint": file.footer.get("fingerprint"),
    }
    return found | ({"kept": kept.get(file.shard, 0)} if file.stage == "teach" else {})
