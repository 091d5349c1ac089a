"""`zoomtrail report`: a run's statistics and a sample of its attempts as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from jobs.bar import bar
from jobs.presets import preset, preset_names


def report(
    run: str, out: str | None, preset_name: str, each: int, seed: int, verifier: str = "", videos: Sequence[str] = ()
) -> None:
    """Writes RUN/report.html, or a file or URL of another name.

    each: attempts of each outcome that are shown; seed: draws them. verifier: a further one, whose verdicts are looked
    at in place of the run's own. videos: URLs to fetch videos from, beside where the run lies. Raises UserError where
    the run or the preset is none, Fatal where a file cannot be read or written.
    """
    from pipeline.page.report import report as make
    from pipeline.page.shared import SharedRows
    from pipeline.shards.stats import collect
    from pipeline.shards.table import Rows
    from pipeline.storage import Storage
    from pipeline.store import RunStore

    condition = preset(preset_name)
    rows = Rows(RunStore(run, verifier))
    stats = collect(rows, condition)
    shared = SharedRows(rows, {name: preset(name) for name in preset_names()})
    with bar("attempts") as show:
        content = make(shared, stats.as_json(), preset_name, each, seed, show, videos)
    folder, name = (run, "report.html") if out is None else _split(out)
    Storage(folder).write(name, content)
    print(f"wrote {out or run.rstrip('/') + '/report.html'} ({len(content) / 1e6:.1f} MB)")


def _split(out: str) -> tuple[str, str]:
    """The folder and the name of a path or an URL."""
    if "://" in out:
        folder, _, name = out.rpartition("/")
        return folder, name
    path = Path(out)
    return str(path.parent), path.name
