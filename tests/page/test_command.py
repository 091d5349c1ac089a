"""`zoomtrail view` as a process: it says where it is, and Ctrl-C ends it."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from pipeline.store import RunStore
from tests.interrupts import interrupts

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.cli", "view", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_prints_its_address_and_ends_cleanly_on_interrupt(watched: RunStore) -> None:
    with interrupts(signal.default_int_handler):
        process = start(watched.url, "--port", "0")
    try:
        assert process.stdout
        line = process.stdout.readline()
        match = re.match(r"(http://127\.0\.0\.1:\d+/)", line)
        assert match, line
        with urllib.request.urlopen(match[1], timeout=60) as answer:
            assert b"q0@0" in answer.read()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 0 and complaints == ""
    finally:
        process.kill()


def test_it_warns_where_others_can_look_and_refuses_what_is_no_run(watched: RunStore, tmp_path: Path) -> None:
    process = start(watched.url, "--port", "0", "--host", "0.0.0.0")
    try:
        assert process.stderr and process.stdout
        assert process.stderr.readline() == ("zoomtrail: anyone who reaches 0.0.0.0 can read this run and its videos\n")
        assert process.stdout.readline().startswith("http://localhost:")
    finally:
        process.kill()
        process.communicate()
    process = start(str(tmp_path), "--port", "0")
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 2 and complaints.count("\n") == 1 and "is not a run directory" in complaints
