"""`zoomtrail view`: a local page to watch a run's trajectories on."""

import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress

from jobs.presets import preset, preset_names


def view(run: str, host: str, port: int, verifier: str, open_browser: bool, videos: Sequence[str] = ()) -> None:
    """Serves the page until it is interrupted. port: 0 for any free one. videos: URLs to fetch videos from, beside
    where the run lies.

    Raises UserError where the run is none or the port is taken, Fatal where the run's files contradict each other.
    """
    from pipeline.page.server import Server
    from pipeline.page.shared import SharedRows
    from pipeline.page.site import Site
    from pipeline.shards.table import Rows
    from pipeline.store import RunStore

    rows = Rows(RunStore(run, verifier))
    site = Site(SharedRows(rows, {name: preset(name) for name in preset_names()}), videos)
    with Server(site, host, port) as server:
        if not server.loopback:
            print(f"zoomtrail: anyone who reaches {host} can read this run and its videos", file=sys.stderr)
        print(f"{server.url}  (Ctrl-C ends it)", flush=True)
        threading.Thread(target=site.warm, daemon=True).start()
        if open_browser:
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    site.close()  # with those that took its place: they share their videos
