"""The house rules that a newcomer could break by accident."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("schemas", "prompts", "pipeline", "jobs")


def modules() -> Iterator[Path]:
    for floor in FLOORS:
        yield from sorted((ROOT / floor).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = FLOORS[floor + 1 :]
    assert not [name for name in imported(path) if name.split(".")[0] in (*above, "tests")]


def test_only_the_actors_and_the_jobs_know_ray() -> None:
    knows = {str(p.relative_to(ROOT)) for p in modules() if any(n.split(".")[0] == "ray" for n in imported(p))}
    assert knows <= {"pipeline/actors.py", "pipeline/stage_actor.py", "jobs/generate.py", "jobs/metrics.py"}


def test_within_the_pipeline_media_and_models_know_no_stage_and_stages_no_cluster() -> None:
    for path in (ROOT / "pipeline").rglob("*.py"):
        room = path.relative_to(ROOT / "pipeline").parts[0]
        names = imported(path)
        if room in ("media", "models"):
            assert not any(
                name.startswith(("pipeline.stages", "pipeline.cluster", "pipeline.shards")) for name in names
            )
        if room == "stages":
            assert not any(name.startswith(("pipeline.cluster", "pipeline.worker")) for name in names)


def test_the_command_starts_without_heavy_libraries() -> None:
    heavy = {"torch", "transformers", "ray", "datasets", "pandas", "pyarrow", "duckdb", "openai", "av", "decord"}
    code = f"import sys, jobs.cli; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_rewards_are_importable_without_ray_or_torch() -> None:
    names = ("videozoomer", "longvideo_r1", "love_r1", "timesearch_r")
    code = "import sys; " + "".join(f"from prompts.{name} import reward; " for name in names)
    code += "print(sorted({'ray', 'torch', 'pyarrow'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
