"""The tables of a snapshot: columns and types, beside the code that writes and reads them."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

_CODE = pa.dictionary(pa.int32(), pa.string())

# What may change while the pixels stay: one part per partition, sorted by photo_id. The taxon is that of the
# identification; the label is what it rolls up to.
LABELS = pa.schema(
    [
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("label_id", pa.int32(), nullable=False),
        pa.field("taxon_id", pa.int32(), nullable=False),
        pa.field("license", _CODE, nullable=False),
        pa.field("split", _CODE, nullable=False),
    ]
)

# What the source says of the photo and its observation: one part per partition, sorted by photo_id.
RECORDS = pa.schema(
    [
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("shard", _CODE, nullable=False),  # sha256 of the tar that holds the image
        pa.field("extension", _CODE, nullable=False),
        pa.field("observation_uuid", pa.uuid(), nullable=False),
        pa.field("observer_id", pa.int32()),
        pa.field("creator", pa.string(), nullable=False),
        pa.field("quality_grade", _CODE),
        pa.field("observed_on", pa.date32()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("positional_accuracy", pa.int32()),
    ]
)

# Photos that are stored and selected and yet not in the snapshot, sorted by photo_id; `stays` is the photo
# they give way to, where there is one.
DROPPED = pa.schema(
    [
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("label_id", pa.int32(), nullable=False),
        pa.field("reason", _CODE, nullable=False),
        pa.field("stays", pa.int64()),
    ]
)

# Photos of the version before that are not in this one, sorted by photo_id; `reason` as in docs/versions.md.
REMOVED = pa.schema(
    [
        pa.field("photo_id", pa.int64(), nullable=False),
        pa.field("label_id", pa.int32(), nullable=False),
        pa.field("reason", _CODE, nullable=False),
    ]
)

# The label taxa of the snapshot with their classification, sorted by label_id.
TAXA = pa.schema(
    [
        pa.field("label_id", pa.int32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("taxon_rank", pa.string(), nullable=False),
        *(pa.field(rank, pa.string()) for rank in ("kingdom", "phylum", "class", "order", "family", "genus")),
    ]
)

# One row per photograph: what `Snapshot.manifest` yields and `manifest.parquet` holds, sorted by photo_id.
MANIFEST = pl.Schema(
    {
        "photo_id": pl.Int64,
        "file_name": pl.String,  # <photo_id>.jpg, its name inside the shard
        "split": pl.String,
        "label_id": pl.Int32,
        "label": pl.String,
        "taxon_rank": pl.String,
        "kingdom": pl.String,
        "phylum": pl.String,
        "class": pl.String,
        "order": pl.String,
        "family": pl.String,
        "genus": pl.String,
        "taxon_id": pl.Int32,  # as identified; label_id is what it rolls up to
        "license": pl.String,
        "license_url": pl.String,
        "creator": pl.String,
        "attribution": pl.String,
        "photo_url": pl.String,
        "observation_url": pl.String,
        "observation_uuid": pl.String,
        "quality_grade": pl.String,
        "observed_on": pl.Date,
        "latitude": pl.Float64,
        "longitude": pl.Float64,
        "positional_accuracy": pl.Int32,
        "width": pl.Int32,
        "height": pl.Int32,
        "format": pl.String,
        "sha256": pl.String,
        "dhash": pl.String,
        "shard": pl.String,  # sha256 of the tar that holds it
        "offset": pl.Int64,  # of the image's bytes in that tar
        "size": pl.Int64,
    }
)
