"""What to cut, and into what."""

from dataclasses import dataclass

from pipeline.shards.condition import Condition
from pipeline.shards.export import Learn, Split
from pipeline.shards.formats.layout import Format, Kind, Media
from pipeline.shards.formats.native import NATIVE

ROWS_PER_FILE, PICTURED_ROWS_PER_FILE = 10_000, 256
"""Rows of a Parquet file where nothing is said; fewer where each holds a hundred pictures."""


@dataclass(frozen=True)
class Order:
    """What to cut.

    name: folder under `cuts/`; kind: what is trained. rows_per_file, bytes_per_file: at most, in Parquet; bytes are
    those of the rows in memory, before compression; None: as fits the pictures, and no bound. format: whose records;
    media: how they hold pictures, None for the format's way. learn: of a corrected rollout all turns, or its
    corrections. test_share: of the videos, in 0..1, drawn by their ids and the seed. seed: draws the test videos, and
    what is kept of too much. tokenizer: whose tokens are counted, "" for none; max_tokens: rows with more are dropped.
    """

    name: str
    kind: Kind
    condition: Condition
    rows_per_file: int | None = None
    format: Format = NATIVE
    media: Media | None = None
    learn: Learn = "all"
    test_share: float = 0.0
    seed: int = 0
    tokenizer: str = ""
    max_tokens: int | None = None
    bytes_per_file: int | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        return ("train", "test") if self.test_share > 0 else ("train",)

    @property
    def most_rows(self) -> int:
        """Of a Parquet file."""
        media, _ = self.format.layout(self.kind, self.media)
        return self.rows_per_file or (PICTURED_ROWS_PER_FILE if media == "embedded" else ROWS_PER_FILE)
