"""A lake as a campaign of many photos leaves it, written in a minute: everything a build reads, no pixels."""

from __future__ import annotations

import hashlib
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import write_deltalake

from lakehouse.campaign import Campaign
from lakehouse.images.ledger import _CONFIGURATION
from lakehouse.images.schema import INDEX, LEDGER
from lakehouse.images.shard import index_key, shard_key
from lakehouse.lake import Lake
from lakehouse.metadata.ingest import RawRelease
from lakehouse.metadata.partitions import Partition, Plan, parameters_digest, plan_key
from lakehouse.metadata.schema import SELECTION, SELECTION_ENCODING
from lakehouse.metadata.selection import SelectionReport, selection_key
from lakehouse.metadata.taxonomy import taxa_key

SOURCE, RELEASE = "inaturalist", "20260101-benchmark"
PER_PARTITION, PER_SHARD, LABELS = 50_000, 10_000, 10_000
CAMPAIGN = Campaign.model_validate(
    {
        "name": "million",
        "title": "A million photographs",
        "description": "Made for measuring.",
        "creators": [{"name": "Nobody"}],
        "taxa": [1],
    }
)


class Million:
    """The lake and its rows, which can be changed and written again."""

    def __init__(self, lake: Lake, photos: int, tar_bytes: int) -> None:
        self.lake, self.chance = lake, np.random.default_rng(1)
        chance = self.chance
        ids = np.sort(chance.choice(500 * photos, photos, replace=False)).astype(np.int64)
        # A partition is a subtree: its photos are any of the ids, its labels its own.
        label = np.minimum((chance.pareto(1.1, photos) * 30).astype(np.int64), LABELS - 1)
        parts = max(1, photos // PER_PARTITION)
        self.rows = pl.DataFrame(
            {
                "photo_id": ids,
                "part": label % parts,
                "label_id": (label + 1).astype(np.int32),
                "person": np.minimum(chance.pareto(1.0, photos) * 50, 50_000).astype(np.int32),
                "split": chance.choice(["train", "val", "test"], photos, p=[0.8, 0.1, 0.1]),
                "license": chance.choice(["CC-BY", "CC0"], photos, p=[0.8, 0.2]),
                "day": chance.integers(15_000, 20_000, photos).astype(np.int32),
                "latitude": np.round(chance.uniform(-60, 60, photos), 1),
                "longitude": np.round(chance.uniform(-180, 180, photos), 1),
                "accuracy": np.minimum(chance.pareto(1.0, photos) * 10, 9_999).astype(np.int32),
                "digest": [hashlib.sha256(number.tobytes()).digest() for number in ids],
            }
        )
        self._metadata(parts)
        self._shards(tar_bytes)
        self.write_selections()

    def _metadata(self, parts: int) -> None:
        self.keys = [f"taxon-{number}" for number in range(parts)]
        partitions = tuple(
            Partition(key, number + 1, key, ((number, number + 1),), PER_PARTITION)
            for number, key in enumerate(self.keys)
        )
        self.plan = Plan(
            campaign=CAMPAIGN.name,
            source=SOURCE,
            release=RELEASE,
            parameters=parameters_digest(CAMPAIGN),
            partitions=partitions,
            keys={partition.taxon_id: partition.key for partition in partitions},
        )
        self.lake.put(plan_key(CAMPAIGN.name), self.plan.model_dump_json().encode())
        release = RawRelease(
            source=SOURCE, reference_url="", release_id=RELEASE, sequence=1, ingested_at="", tables=()
        )
        self.lake.put(f"raw/{SOURCE}/{RELEASE}/release.json", release.model_dump_json().encode())
        taxa = pa.table(
            {
                "taxon_id": pa.array(range(1, LABELS + 1), pa.int32()),
                "name": [f"Species {number}" for number in range(LABELS)],
                "rank": ["species"] * LABELS,
                **{rank: [f"{rank} {n % 97}" for n in range(LABELS)] for rank in ("family", "genus")},
            }
        )
        with self.lake.parquet_writer(taxa_key(SOURCE, RELEASE), taxa.schema) as writer:
            writer.write_table(taxa)

    def _shards(self, tar_bytes: int) -> None:
        """Archives of random bytes under their true names, with an index of every photo, and the ledger."""
        hashes = dhashes(self.rows.height, self.chance)
        shards: list[str] = []
        for start in range(0, self.rows.height, PER_SHARD):
            some = self.rows.slice(start, PER_SHARD)
            with self.lake.scratch() as folder:
                path, digest = Path(folder) / "shard.tar", hashlib.sha256()
                with path.open("wb") as tar:
                    for _ in range(max(1, tar_bytes >> 20)):
                        piece = os.urandom(1 << 20)
                        digest.update(piece)
                        tar.write(piece)
                name = digest.hexdigest()
                self.lake.publish(path, shard_key("medium", name))
            count = some.height
            index = pa.table(
                {
                    "photo_id": some["photo_id"].to_arrow(),
                    "file_name": [f"{number}.jpg" for number in some["photo_id"]],
                    "offset": pa.array(range(512, 512 + 75_000 * count, 75_000), pa.int64()),
                    "size": self.chance.integers(40_000, 120_000, count),
                    "sha256": pa.array(some["digest"].to_list(), pa.binary(32)),
                    "dhash": pa.array(hashes[start : start + count], pa.uint64()),
                    "width": [500] * count,
                    "height": [375] * count,
                    "format": ["jpeg"] * count,
                    "mode": ["RGB"] * count,
                    "orientation": pa.array([None] * count, pa.uint8()),
                    "gps": [False] * count,
                    "animated": [False] * count,
                }
            ).cast(INDEX)
            with self.lake.parquet_writer(index_key("medium", name), INDEX) as writer:
                writer.write_table(index)
            shards += [name] * count
            self._record(some, name, "stored", index["size"].to_pylist(), datetime(2026, 1, 1, tzinfo=UTC))
        self.rows = self.rows.with_columns(shard=pl.Series(shards))

    def _record(
        self, rows: pl.DataFrame, shard: str | None, outcome: str, sizes: list[int | None], at: datetime
    ) -> None:
        count = rows.height
        stored = outcome == "stored"
        table = pa.table(
            {
                "source": [SOURCE] * count,
                "photo_id": rows["photo_id"].to_arrow(),
                "rendition": ["medium"] * count,
                "outcome": [outcome] * count,
                "reason": ["ok"] * count,
                "http_status": [200] * count,
                "attempts": [1] * count,
                "first_at": [at] * count,
                "last_at": [at] * count,
                "etag": [None] * count,
                "last_modified": [None] * count,
                "sha256": rows["digest"].to_list() if stored else [None] * count,
                "shard": [shard] * count,
                "size": sizes,
            }
        ).cast(LEDGER)
        write_deltalake(
            self.lake.uri("ledger"),
            table,
            mode="append",
            partition_by=["source", "rendition"],
            configuration=_CONFIGURATION,
        )

    def write_selections(self) -> None:
        """Write the selections as the rows are now."""
        for number, key in enumerate(self.keys):
            some = self.rows.filter(pl.col("part") == number)
            names = np.char.add("Person ", some["person"].to_numpy().astype(str))
            table = pa.table(
                {
                    "photo_id": some["photo_id"].to_arrow(),
                    "extension": ["jpg"] * some.height,
                    "label_id": some["label_id"].to_arrow(),
                    "label": [f"Species {label}" for label in some["label_id"]],
                    "taxon_id": some["label_id"].to_arrow(),
                    "observation_uuid": pa.array(
                        [uuid.UUID(bytes=digest[:16]).bytes for digest in some["digest"]], pa.binary(16)
                    ).cast(pa.uuid()),
                    "observer_id": some["person"].to_arrow(),
                    "creator": pa.array(names.tolist()),
                    "license": some["license"].to_list(),
                    "split": some["split"].to_list(),
                    "quality_grade": ["research"] * some.height,
                    "observed_on": some["day"].to_arrow().cast(pa.date32()),
                    "latitude": some["latitude"].to_arrow(),
                    "longitude": some["longitude"].to_arrow(),
                    "positional_accuracy": some["accuracy"].to_arrow(),
                    "width": [500] * some.height,
                    "height": [375] * some.height,
                }
            ).cast(SELECTION)
            with self.lake.parquet_writer(
                selection_key(CAMPAIGN.name, key), SELECTION, **SELECTION_ENCODING
            ) as writer:
                writer.write_table(table, row_group_size=65_536)
            report = SelectionReport(
                campaign=CAMPAIGN.name,
                key=key,
                release=RELEASE,
                plan_digest=self.plan.digest,
                digest="",
                considered=some.height,
                selected=some.height,
                excluded={},
                labels=some["label_id"].n_unique(),
            )
            self.lake.put(
                f"campaigns/{CAMPAIGN.name}/selection/{key}.json", report.model_dump_json().encode()
            )

    def relabel(self, share: float) -> None:
        """Give a share of the photos, wherever they are, the label of another species."""
        chosen = self.chance.random(self.rows.height) < share
        parts = len(self.keys)
        # Of the same partition, as most misidentifications are of relatives.
        other = (pl.col("label_id") - 1 + parts) % (LABELS - LABELS % parts) + 1
        self.rows = self.rows.with_columns(
            label_id=pl.when(pl.Series(chosen)).then(other).otherwise(pl.col("label_id")).cast(pl.Int32)
        )
        self.write_selections()

    def lose(self, share: float, at: datetime) -> None:
        """Let a share of the photos be gone at the source."""
        chosen = self.rows.filter(pl.Series(self.chance.random(self.rows.height) < share))
        self._record(chosen, None, "gone", [None] * chosen.height, at)


def dhashes(count: int, chance: np.random.Generator) -> np.ndarray:
    """Difference hashes of smooth random pictures, whose bits depend on each other as those of photographs
    do; one in a hundred is a near copy of another."""
    found = np.empty(count, np.uint64)
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        coarse = chance.normal(size=(size, 4, 4))
        rows = np.linspace(0, 2.999, 8)
        columns = np.linspace(0, 2.999, 9)
        picture = _bilinear(coarse, rows, columns) + 0.05 * chance.normal(size=(size, 8, 9))
        bits = picture[:, :, :-1] < picture[:, :, 1:]
        found[start : start + size] = np.packbits(bits.reshape(size, 64), axis=1).view(">u8").ravel()
    copies = chance.choice(count, count // 100, replace=False)
    originals = chance.integers(0, count, len(copies))
    found[copies] = found[originals] ^ (np.uint64(1) << chance.integers(0, 64, len(copies)).astype(np.uint64))
    return found


def _bilinear(coarse: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[None, :, None], (columns - c)[None, None, :]
    top = coarse[:, r][:, :, c] * (1 - fc) + coarse[:, r][:, :, c + 1] * fc
    low = coarse[:, r + 1][:, :, c] * (1 - fc) + coarse[:, r + 1][:, :, c + 1] * fc
    return top * (1 - fr) + low * fr
