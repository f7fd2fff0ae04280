"""The tables between a dump and a selection: columns and types, beside the code that writes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.campaign import RANKS


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


# --- raw/<source>/<release>/<table>.parquet: what the dump says, with the types of its structure.sql

OBSERVATIONS = pa.schema(
    [
        _required("observation_uuid", pa.uuid()),
        pa.field("observer_id", pa.int32()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("positional_accuracy", pa.int32()),
        pa.field("taxon_id", pa.int32()),
        pa.field("quality_grade", pa.string()),
        pa.field("observed_on", pa.date32()),
        # Since November 2024; overflowing values were seen, so no decimal.
        pa.field("anomaly_score", pa.float64()),
    ]
)
OBSERVERS = pa.schema(
    [_required("observer_id", pa.int32()), pa.field("login", pa.string()), pa.field("name", pa.string())]
)
PHOTOS_RAW = pa.schema(
    [
        _required("photo_uuid", pa.uuid()),
        _required("photo_id", pa.int64()),
        _required("observation_uuid", pa.uuid()),
        pa.field("observer_id", pa.int32()),
        _required("extension", pa.string()),
        pa.field("license", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("position", pa.int32()),
    ]
)
TAXA_RAW = pa.schema(
    [
        _required("taxon_id", pa.int32()),
        pa.field("ancestry", pa.string()),
        pa.field("rank_level", pa.float64()),
        pa.field("rank", pa.string()),
        _required("name", pa.string()),
        _required("active", pa.bool_()),
    ]
)
OBSERVATIONS_PROJECTS = pa.schema(
    [_required("observation_uuid", pa.uuid()), _required("project_id", pa.int32())]
)
PROJECTS = pa.schema(
    [_required("project_id", pa.int32()), pa.field("title", pa.string()), pa.field("slug", pa.string())]
)


@dataclass(frozen=True, slots=True)
class RawTable:
    """How one table of a dump is read: its `schema`, the headers known for it, and how Parquet encodes it.

    A known header is a prefix of the schema's names; columns it lacks are null. A dump may lack a table
    that is `optional`.
    """

    name: str
    schema: pa.Schema
    headers: tuple[tuple[str, ...], ...]
    encoding: dict[str, Any]
    optional: bool = False


def _raw(
    name: str,
    schema: pa.Schema,
    words: Iterable[str],
    ids: Iterable[str],
    older: Iterable[int] = (),
    optional: bool = False,
    unpacked: Iterable[str] = (),
) -> RawTable:
    headers = tuple(tuple(schema.names[:count]) for count in (len(schema), *older))
    # A UUID repeats as a whole or not at all, which the fastest level finds as well.
    levels = {
        field.name: -5 if field.type == pa.uuid() else 1 for field in schema if field.name not in unpacked
    }
    # Raw tables are read whole: nothing would be skipped by statistics or pages.
    speed = {
        "compression": {field.name: "zstd" if field.name in levels else "none" for field in schema},
        "compression_level": levels,
        "write_statistics": False,
        "max_rows_per_page": 1 << 30,
    }
    return RawTable(name, schema, headers, {**parquet_encoding(words, ids), **speed}, optional)


def parquet_encoding(words: Iterable[str], ids: Iterable[str]) -> dict[str, Any]:
    """Parquet writer options: a dictionary for columns of few distinct `words`, deltas for rising `ids`."""
    return {
        "use_dictionary": list(words),
        "column_encoding": dict.fromkeys(ids, "DELTA_BINARY_PACKED"),
    }


RAW_TABLES: dict[str, RawTable] = {
    table.name: table
    for table in (
        _raw(
            "observations",
            OBSERVATIONS,
            ["quality_grade", "positional_accuracy"],
            ["observer_id", "observed_on"],
            older=[8],
        ),
        _raw("observers", OBSERVERS, [], ["observer_id"]),
        _raw(
            "photos",
            PHOTOS_RAW,
            ["extension", "license", "width", "height"],
            ["photo_id", "position"],
            # One is random, of the other little is left.
            unpacked=["photo_uuid", "photo_id"],
        ),
        _raw("taxa", TAXA_RAW, ["rank", "rank_level"], ["taxon_id"]),
        # Since August 2025.
        _raw("observations_projects", OBSERVATIONS_PROJECTS, ["project_id"], [], optional=True),
        _raw("projects", PROJECTS, [], ["project_id"], optional=True),
    )
}

RAW: dict[str, pa.Schema] = {name: table.schema for name, table in RAW_TABLES.items()}

# raw/<source>/<release>/<table>.rejects.parquet: the lines of the dump that break a rule, in order.
REJECTS = pa.schema(
    [
        _required("file", pa.string()),
        _required("line", pa.int64()),  # from 1, the header's
        pa.field("column", pa.string()),  # null where the line as a whole is wrong
        _required("rule", pa.string()),
        _required("text", pa.string()),  # bytes that are not UTF-8 as \xNN, cut at 4,096 characters
    ]
)

# --- tables/<source>/<release>/

_TAXA = [
    _required("taxon_id", pa.int32()),
    pa.field("parent_id", pa.int32()),
    _required("name", pa.string()),
    pa.field("rank", pa.string()),
    pa.field("rank_level", pa.float64()),
    _required("active", pa.bool_()),
    _required("depth", pa.int32()),
    _required("lft", pa.int64()),
    _required("rgt", pa.int64()),
]
TAXA_COLUMNS = tuple(field.name for field in _TAXA)


def taxa_schema(ranks: Iterable[str]) -> pa.Schema:
    """Schema of `taxa.parquet`, sorted by `lft`: the taxon, and its ancestor-or-self of every rank.

    Parameters
    ----------
    ranks
        The ranks that get a column `<rank>` (name) and `<rank>_id`, null where a taxon has none.
    """
    columns = [(pa.field(rank, pa.string()), pa.field(f"{rank}_id", pa.int32())) for rank in ranks]
    return pa.schema([*_TAXA, *(field for pair in columns for field in pair)])


def rank_columns(found: Iterable[str]) -> list[str]:
    """The ranks of `found` that get columns: known ones from the root down, then others."""
    ranks = set(found)
    taken = {*TAXA_COLUMNS, *(f"{rank}_id" for rank in ranks)}
    others = sorted(rank for rank in ranks - set(RANKS) if rank.isidentifier() and rank not in taken)
    return [*(rank for rank in RANKS if rank in ranks), *others]


PHOTOS = pa.schema(
    [
        _required("photo_id", pa.int64()),
        _required("lft", pa.int64()),
        _required("taxon_id", pa.int32()),
        _required("observation_uuid", pa.uuid()),
        pa.field("observer_id", pa.int32()),  # the photo's, who may not be the observation's
        _required("extension", pa.string()),
        pa.field("license", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("position", pa.int32()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("positional_accuracy", pa.int32()),
        pa.field("quality_grade", pa.string()),
        pa.field("observed_on", pa.date32()),
        pa.field("other_observations", pa.list_(pa.uuid())),  # null unless the photo is shared
        _required("taxa_disagree", pa.bool_()),
    ]
)
# Whoever reads a taxon of a few photos decodes a whole row group, so they are small; smaller ones would be
# read no faster, since each column has a cost of its own.
PHOTOS_GROUP = 4_096
# Columns of a few bits a row: packing them further saves half a byte and costs a tenth of the reading.
_SMALL = {
    "taxon_id",
    "extension",
    "license",
    "width",
    "height",
    "quality_grade",
    "other_observations",
    "taxa_disagree",
}
PHOTOS_ENCODING = {
    **parquet_encoding(
        [
            "extension",
            "license",
            "quality_grade",
            "taxon_id",
            "lft",
            "observed_on",
            "width",
            "height",
            "position",
        ],
        ["photo_id"],
    ),
    "compression": {name: "none" if name in _SMALL else "zstd" for name in PHOTOS.names},
    # A UUID repeats as a whole or not at all, which the fastest level finds as well.
    "compression_level": {
        name: -5 if name == "observation_uuid" else 1 for name in PHOTOS.names if name not in _SMALL
    },
    # What row groups are skipped by.
    "write_statistics": ["lft"],
}

# photos/index.parquet: which file holds which labels, [lft_min, lft_max] closed.
PHOTOS_INDEX = pa.schema(
    [
        _required("file", pa.string()),
        _required("lft_min", pa.int64()),
        _required("lft_max", pa.int64()),
        _required("rows", pa.int64()),
    ]
)

# photos/digests-*.parquet: one row for each of the part of that number, in its order; `digest` is of all its
# columns but `lft` (`metadata.digests`).
DIGESTS = pa.schema(
    [
        *(PHOTOS.field(name) for name in ("photo_id", "lft", "taxon_id", "license")),
        _required("digest", pa.uint64()),
    ]
)
# All of them are read at a time.
DIGESTS_GROUP = 32_768
DIGESTS_ENCODING = {
    **parquet_encoding(["lft", "taxon_id", "license"], ["photo_id"]),
    "compression": {**dict.fromkeys(DIGESTS.names, "zstd"), "photo_id": "none", "digest": "none"},
    "compression_level": {"lft": 1, "taxon_id": 1, "license": 1},
    "write_statistics": ["lft"],
}

# photos.rejects.parquet: rows of the raw photos that reach no taxon.
PHOTOS_REJECTS = pa.schema(
    [
        _required("photo_id", pa.int64()),
        _required("observation_uuid", pa.uuid()),
        _required("rule", pa.string()),
    ]
)

# changes/<earlier release>.parquet: photos that are not what they were, in no order.
CHANGES = pa.schema(
    [
        _required("photo_id", pa.int64()),
        _required("change", pa.string()),
        pa.field("taxon_id_before", pa.int32()),
        pa.field("taxon_id_after", pa.int32()),
        pa.field("license_before", pa.string()),
        pa.field("license_after", pa.string()),
    ]
)
CHANGES_ENCODING = parquet_encoding(
    ["change", "taxon_id_before", "taxon_id_after", "license_before", "license_after"], []
)

# changes/<earlier release>.taxa.parquet, sorted by taxon and kind.
TAXON_CHANGES = pa.schema(
    [
        _required("taxon_id", pa.int32()),
        _required("change", pa.string()),
        pa.field("name_before", pa.string()),
        pa.field("name_after", pa.string()),
        pa.field("rank_before", pa.string()),
        pa.field("rank_after", pa.string()),
        pa.field("parent_id_before", pa.int32()),
        pa.field("parent_id_after", pa.int32()),
    ]
)

# --- campaigns/<name>/selection/

# <key>.parquet, sorted by photo_id.
SELECTION = pa.schema(
    [
        _required("photo_id", pa.int64()),
        _required("extension", pa.string()),
        _required("label_id", pa.int32()),
        _required("label", pa.string()),
        _required("taxon_id", pa.int32()),
        _required("observation_uuid", pa.uuid()),
        pa.field("observer_id", pa.int32()),
        _required("creator", pa.string()),
        _required("license", pa.string()),
        _required("split", pa.string()),
        pa.field("quality_grade", pa.string()),
        pa.field("observed_on", pa.date32()),
        pa.field("latitude", pa.float64()),  # rounded as the campaign says
        pa.field("longitude", pa.float64()),
        pa.field("positional_accuracy", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)
SELECTION_ENCODING = parquet_encoding(
    ["extension", "label_id", "label", "taxon_id", "license", "split", "quality_grade", "observed_on"],
    ["photo_id"],
)

# <key>.excluded.parquet: photos left out for a reason that someone should look at, sorted by photo_id.
EXCLUDED = pa.schema([_required("photo_id", pa.int64()), _required("reason", pa.string())])
