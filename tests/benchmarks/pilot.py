"""A pilot run for `tests.benchmarks.ten_million`: sixteen questions about four real videos, eight attempts each.

    python -m tests.benchmarks.pilot FOLDER [--protocol videozoomer|longvideo_r1]

Its models are the tests' scripted server, which counts a quarter of the characters and a hundred tokens a picture, and
a tiny verifier: its calls, tokens, bytes and files are those of a run, its seconds of a GPU are not.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from tests.jobs.test_real_videos import SHARED, real_job
from tests.scripted_server import ScriptedServer
from tests.tiny_models import build_idefics3

ATTEMPTS = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocol", choices=("videozoomer", "longvideo_r1"), default="videozoomer")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    build_idefics3(folder / "verifier")
    with ScriptedServer(folder / "calls.jsonl", SHARED / "questions.jsonl", careless=0.02) as server:
        path = real_job(folder, options.protocol, server.base_url)
        job = yaml.safe_load(path.read_text()) | {"attempts": ATTEMPTS}
        path.write_text(yaml.safe_dump(job))
        command = [sys.executable, "-m", "jobs.cli", "generate", str(path), "--out", str(folder / "run")]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
