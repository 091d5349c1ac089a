"""Captions of an earlier run, taken over where that run's caption settings are the same."""

from pipeline.store import RunStore
from schemas.captions import CaptionTree
from schemas.config import changed
from schemas.errors import UserError
from schemas.video import Video


class EarlierCaptions:
    """Finds captioned videos of another run by the content of their file."""

    def __init__(self, run_url: str, fingerprint: str) -> None:
        self._store = RunStore(run_url)
        self._shard_of: dict[tuple[str, str], int] | None = None
        self._fingerprint = fingerprint

    def find(self, video: Video) -> CaptionTree | None:
        """The finished captions of the same video id and content, or None."""
        if self._shard_of is None:
            self._shard_of = self._index()
        shard = self._shard_of.get((video.video_id, video.content_hash))
        if shard is None:
            return None
        tree = next(t for t in self._store.rows(CaptionTree, "caption", shard) if t.video_id == video.video_id)
        return tree.model_copy(update={"video": video})

    def _index(self) -> dict[tuple[str, str], int]:
        index = {}
        for shard in sorted(self._store.finished("caption")):
            if self._store.footer("caption", shard)["fingerprint"] != self._fingerprint:
                continue
            table = self._store.table("caption", shard, ["video_id", "status", "video"])
            for row in table.to_pylist():
                if row["status"] == "ok":
                    index[row["video_id"], row["video"]["content_hash"]] = shard
        return index


def require_same_captions(run_url: str, settings: dict[str, object]) -> None:
    """Raises UserError where captions.reuse_from names no run, or one whose captions were made otherwise."""
    known = RunStore(run_url).require().recorded_settings()
    differences = changed((known or {})["caption"], settings)
    if differences:
        raise UserError(f"captions.reuse_from: {run_url} was captioned with other settings: {'; '.join(differences)}")
