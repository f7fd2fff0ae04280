"""Metadata that people look at: tables, plots and thumbnails, each kept small."""

import base64
import io
from collections.abc import Mapping, Sequence

import dagster as dg
import polars as pl
import pyarrow as pa
from PIL import Image

from assets.columns import description
from lakehouse.catalog.bars import label_bars
from lakehouse.catalog.thumbnails import contact_sheet, thumbnail_strip
from lakehouse.images.report import FetchReport
from lakehouse.licences import LICENCES
from lakehouse.snapshots.diff import Diff

THUMBNAILS = 12
_WIDTH = 640
_MOST_BYTES = 20_000


def column_schema(table: str, schema: pa.Schema) -> dg.TableSchema:
    """The Arrow schema of a table as Dagster shows it, with what each column means."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                _type(field.type),
                description(table, field.name),
                dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def _type(kind: pa.DataType) -> str:
    """How a reader of the table sees it, not how it is stored."""
    if pa.types.is_dictionary(kind):
        return str(kind.value_type)
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name.rpartition(".")[2])
    return str(kind)


def polars_columns(table: str, schema: pl.Schema) -> dg.TableSchema:
    """The Polars schema of a table as Dagster shows it, with what each column means."""
    columns = [dg.TableColumn(name, str(kind), description(table, name)) for name, kind in schema.items()]
    return dg.TableSchema(columns)


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
    """An image shown in place, made small: an event carries it, and keeps it for ever."""
    return dg.MetadataValue.md(_embedded(_small(data), text))


def _embedded(data: bytes, text: str) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"![{text}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def _small(data: bytes) -> bytes:
    """A figure or strip in at most `_WIDTH` pixels and, where it is a drawing, a few colours."""
    with Image.open(io.BytesIO(data)) as image:
        drawing = image.format == "PNG"
        shown = image.convert("RGB")
    if not drawing and len(data) <= _MOST_BYTES:
        return data
    shown.thumbnail((_WIDTH, _WIDTH))
    stream = io.BytesIO()
    if drawing:
        shown.quantize(48).save(stream, "PNG", optimize=True)
    else:
        shown.save(stream, "JPEG", quality=70, optimize=True)
    return stream.getvalue()


def failure_table(report: FetchReport) -> dg.TableMetadataValue:
    """Photos that are not stored, by reason, with examples to look at."""
    names = {"reason": "string", "photos": "int", "status": "string", "examples": "string"}
    records = []
    for reason, count in sorted(report.by_reason.items(), key=lambda item: -item[1]):
        shown = report.examples.get(reason, ())[:3]
        statuses = {str(one.http_status) for one in shown if one.http_status is not None}
        records.append(
            dg.TableRecord(
                {
                    "reason": reason,
                    "photos": count,
                    "status": ", ".join(sorted(statuses)),
                    "examples": " ".join(one.url[:300] for one in shown),
                }
            )
        )
    return dg.MetadataValue.table(
        records, dg.TableSchema([dg.TableColumn(*column) for column in names.items()])
    )


def diff_table(found: Diff, most: int = 50) -> dg.TableMetadataValue:
    """What changed since the version before, by label, the labels with most changes first."""
    names = {"label": "string", "added": "int", "removed": "int", "relabelled": "int", "relicensed": "int"}
    records = [
        dg.TableRecord({name: getattr(label, name) for name in names}) for label in found.labels[:most]
    ]
    return dg.MetadataValue.table(
        records, dg.TableSchema([dg.TableColumn(*column) for column in names.items()])
    )


def sheet(pictures: Sequence[tuple[bytes, str]]) -> dg.MarkdownMetadataValue:
    """Pictures with a caption under each."""
    images, captions = zip(*pictures, strict=True)
    return picture(contact_sheet(images, captions, columns=3), "pictures")


def partition_pictures(
    labels: Sequence[tuple[str, int]], images: Sequence[bytes]
) -> dg.MarkdownMetadataValue:
    """Photos by label, and a strip of a few of them; together, as the page shows pictures on a click."""
    shown = [_embedded(label_bars(labels), "photos selected by label")] if labels else []
    if images:
        shown.append(_embedded(thumbnail_strip(images[:THUMBNAILS], side=64), "some of the photographs"))
    return dg.MetadataValue.md("\n\n".join(shown) or "no photographs")
