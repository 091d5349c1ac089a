"""What the earlier sessions of a run have used: the sum of all replies that it keeps."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.leases import Used
from pipeline.models.replies import usage_of
from pipeline.prices import Prices
from pipeline.storage import Storage
from pipeline.store import RunStore
from schemas.config import Endpoint, Price

_READERS = 32
"""Files read at once: on an object store each takes some ten milliseconds."""


def used_before(run_url: str, endpoints: Mapping[str, Endpoint]) -> dict[str, Used]:
    """By role, at the price that is named now for each model.

    Every reply that was paid for is a file before anything else is done with it, so no ledger of its own could be more
    exact. Reads all of them: some seconds for ten thousand. endpoints: those of this session, by role; what others of
    the run used counts as well (a regeneration may have had another teacher). Models in a worker cost nothing.
    """
    storage = Storage(run_url)
    models = Prices(RunStore(run_url)).endpoints | {(role, e.model): e.price for role, e in endpoints.items()}
    try:
        paths = [path for path in map(str, storage.fs.find(storage.path("calls"))) if path.endswith(".json")]
    except FileNotFoundError:
        return {}
    totals = {role: Used() for role in {role for role, _ in models}}
    with ThreadPoolExecutor(_READERS) as readers:
        for call in readers.map(lambda path: _call(storage.fs.cat_file(path)), paths):
            role, model = call.get("role", ""), call.get("request", {}).get("model", "")
            if "choices" in call.get("response", {}) and (role in endpoints or (role, model) in models):
                price = models[role, model] if (role, model) in models else endpoints[role].price
                _add(totals[role], call["response"], price)
    return totals


def _call(data: bytes) -> dict[str, Any]:
    try:
        call = json.loads(data)
    except ValueError:
        return {}
    return call if isinstance(call, dict) else {}


def _add(total: Used, response: dict[str, Any], price: Price | None) -> None:
    usage = usage_of(response, price)
    total.answered += 1
    total.prompt += usage.prompt_tokens
    total.completion += usage.completion_tokens
    total.cached += usage.cached_tokens
    total.dollars += usage.cost_usd or 0.0
    total.unpriced += usage.cost_usd is None
