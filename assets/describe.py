"""Metadata that people look at: tables, plots and thumbnails, each kept small."""

import base64
from collections.abc import Mapping, Sequence

import dagster as dg
import pyarrow as pa

from lakehouse.catalog import plots
from lakehouse.catalog.statistics import Statistics
from lakehouse.catalog.thumbnails import thumbnail_strip
from lakehouse.licences import LICENCES
from lakehouse.snapshots.read import Snapshot

THUMBNAILS = 12


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema as Dagster shows it."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name, str(field.type), constraints=dg.TableColumnConstraints(nullable=field.nullable)
            )
            for field in schema
        ]
    )


def count_table(counts: Mapping[str, int], name: str = "what") -> dg.TableMetadataValue:
    """Counts by name, as a table."""
    schema = dg.TableSchema([dg.TableColumn(name, "string"), dg.TableColumn("rows", "int")])
    return dg.MetadataValue.table(
        [dg.TableRecord({name: key, "rows": value}) for key, value in counts.items()], schema
    )


def licence_table(counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Photos by licence with what each allows."""
    total = sum(counts.values())
    records = [
        dg.TableRecord(
            {
                "licence": code,
                "photos": count,
                "share": f"{count / total:.1%}",
                "commercial use": "yes" if LICENCES[code].commercial else "no",
                "adaptations": "yes" if LICENCES[code].derivatives else "no",
            }
        )
        for code, count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    names = {
        "licence": "string",
        "photos": "int",
        "share": "string",
        "commercial use": "string",
        "adaptations": "string",
    }
    return dg.MetadataValue.table(
        records, dg.TableSchema([dg.TableColumn(*column) for column in names.items()])
    )


def picture(data: bytes, text: str) -> dg.MarkdownMetadataValue:
    """An image shown in place."""
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data[8:12] == b"WEBP" else "jpeg"
    return dg.MetadataValue.md(f"![{text}](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def thumbnails(images: Sequence[bytes]) -> dg.MarkdownMetadataValue:
    """A strip of small pictures."""
    return picture(thumbnail_strip(images[:THUMBNAILS]), "thumbnails")


def snapshot_thumbnails(snapshot: Snapshot) -> dg.MarkdownMetadataValue:
    """Twelve photographs of the snapshot, the same ones each time."""
    samples = snapshot.samples(shuffle=True, seed=0)
    return thumbnails([samples[index].image for index in range(min(THUMBNAILS, len(samples)))])


def long_tail(statistics: Statistics) -> dg.MarkdownMetadataValue:
    """Photos per label, most to least, as a plot."""
    return picture(plots.rank_abundance(statistics), "photos per label")
