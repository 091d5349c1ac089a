"""What the earlier sessions of a run have used: the sum of all replies that it keeps."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.leases import Used
from pipeline.models.calls import CallStore
from pipeline.models.replies import usage_of
from schemas.config import Endpoint

_READERS = 32
"""Files read at once: on an object store each takes some ten milliseconds."""


def used_before(run_url: str, endpoints: Mapping[str, Endpoint]) -> dict[str, Used]:
    """By role, at the price that the job names now.

    Every reply that was paid for is a file before anything else is done with it, so no ledger of its own could be more
    exact. Reads all of them: some seconds for ten thousand. endpoints: by role; other roles cost nothing.
    """
    calls = CallStore(run_url)
    totals = {role: Used() for role in endpoints}
    with ThreadPoolExecutor(_READERS) as readers:
        for folder in calls.folders():
            keys = [file.name.removesuffix(".json") for file in calls.files(folder) if file.name.endswith(".json")]
            for call in filter(None, readers.map(calls.document, keys)):
                if call.get("role") in totals and "choices" in call["response"]:
                    _add(totals[call["role"]], call["response"], endpoints[call["role"]])
    return totals


def _add(total: Used, response: dict[str, Any], endpoint: Endpoint) -> None:
    usage = usage_of(response, endpoint.price)
    total.answered += 1
    total.prompt += usage.prompt_tokens
    total.completion += usage.completion_tokens
    total.cached += usage.cached_tokens
    total.dollars += usage.cost_usd or 0.0
    total.unpriced += usage.cost_usd is None
