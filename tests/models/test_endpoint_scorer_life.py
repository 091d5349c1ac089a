"""A verifier behind a server from its trial to its end: what errors do not decide, and what it leaves behind."""

import asyncio
import gc
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.errors import Fatal, Rejected
from tests.models.test_endpoint_scorer import TOKENS, probe, reply, scorer, server


def test_a_server_that_fails_at_the_trial_says_nothing_of_log_probabilities(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: int) -> web.Response:
        failing = "logprobs" in body and not mended
        return web.Response(status=500) if failing else reply("A", TOKENS)

    mended: list[bool] = []
    with server(answer) as (url, _):
        verifier = scorer(url, tmp_path, outage_s=0, retries=0)
        with pytest.raises(Fatal):
            verifier.score([probe()])
    mended.append(True)
    with server(answer) as (url, _):
        verifier = scorer(url, tmp_path)
        verifier.score([probe()])
    assert verifier.name == "m@logprobs"


def test_one_request_that_always_fails_at_the_trial_decides_nothing_for_the_run(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: int) -> web.Response:
        trial = "Which is a colour" in json.dumps(body)
        return web.Response(status=500) if trial and not mended else reply("A", TOKENS)

    mended: list[bool] = []
    with server(answer) as (url, _):
        verifier = scorer(url, tmp_path, outage_s=0, retries=0)
        with pytest.raises(Rejected) as caught:
            verifier.score([probe()])
        mended.append(True)
        verifier.score([probe()])
    assert caught.value.kind == "server_error" and verifier.name == "m@logprobs"


def test_a_closed_verifier_leaves_no_thread_and_no_connection(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()
    recwarn.clear()  # what earlier tests left is none of its own
    before = set(threading.enumerate())
    with server(lambda *_: reply("A", TOKENS)) as (url, _):
        verifier = scorer(url, tmp_path)
        verifier.score([probe()])
        asyncio.run(verifier.close())
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    del verifier
    gc.collect()
    assert not left and not [w for w in recwarn if "nclosed" in str(w.message)]
