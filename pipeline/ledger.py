"""What the earlier sessions of a run have used: the sum of all replies that it keeps."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.leases import Used
from pipeline.models.calls import CallStore
from pipeline.models.replies import usage_of
from pipeline.prices import Prices
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
    models = Prices(RunStore(run_url)).endpoints | {(role, e.model): e.price for role, e in endpoints.items()}
    calls, totals = CallStore(run_url), {role: Used() for role in {role for role, _ in models}}
    with ThreadPoolExecutor(_READERS) as readers:
        for folder in calls.folders():
            keys = [file.name.removesuffix(".json") for file in calls.files(folder) if file.name.endswith(".json")]
            for call in filter(None, readers.map(calls.document, keys)):
                role, model = call.get("role", ""), call["request"].get("model", "")
                if "choices" in call["response"] and (role in endpoints or (role, model) in models):
                    price = models[role, model] if (role, model) in models else endpoints[role].price
                    _add(totals[role], call["response"], price)
    return totals


def _add(total: Used, response: dict[str, Any], price: Price | None) -> None:
    usage = usage_of(response, price)
    total.answered += 1
    total.prompt += usage.prompt_tokens
    total.completion += usage.completion_tokens
    total.cached += usage.cached_tokens
    total.dollars += usage.cost_usd or 0.0
    total.unpriced += usage.cost_usd is None
