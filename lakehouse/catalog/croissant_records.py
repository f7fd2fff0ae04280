"""The record sets of a Croissant description: splits, taxa, the manifest's rows, and samples with their
images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from lakehouse.catalog.files import DatasetFile, only
from lakehouse.catalog.statistics import Statistics
from lakehouse.snapshots.schema import MANIFEST, TAXA

_SPLITS = {
    "train": "cr:TrainingSplit",
    "val": "cr:ValidationSplit",
    "validation": "cr:ValidationSplit",
    "test": "cr:TestSplit",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Croissant `data_type`, what it says, and the URI of the Darwin Core or Dublin Core
    `term`."""

    name: str
    data_type: str
    description: str
    term: str | None = None


_TYPES: dict[pl.DataType | type[pl.DataType], str] = {
    pl.Int64: "sc:Integer",
    pl.Int32: "sc:Integer",
    pl.Float64: "sc:Float",
    pl.Date: "sc:Date",
    pl.String: "sc:Text",
}
_URLS = ("license_url", "photo_url", "observation_url")
_DWC = "http://rs.tdwg.org/dwc/terms/"
_DCT = "http://purl.org/dc/terms/"
_AC = "http://rs.tdwg.org/ac/terms/"

_DESCRIPTIONS = {
    "photo_id": "iNaturalist's id of the photograph; unique.",
    "file_name": "Name of the photograph inside its shard.",
    "split": "The split it belongs to, decided by a hash of its observation.",
    "label_id": "iNaturalist's id of the label taxon.",
    "label": "Scientific name of the label; finer identifications roll up to it.",
    "taxon_rank": "Rank of the label.",
    "kingdom": "Kingdom of the label.",
    "phylum": "Phylum of the label.",
    "class": "Class of the label.",
    "order": "Order of the label.",
    "family": "Family of the label.",
    "genus": "Genus of the label.",
    "taxon_id": "iNaturalist's id of the taxon as identified.",
    "license": "Code of the photograph's licence.",
    "license_url": "Text of the photograph's licence.",
    "creator": "Name or login of the photographer.",
    "attribution": "The line to print beside the photograph.",
    "photo_url": "Where the source serves the photograph.",
    "observation_url": "The observation the photograph documents.",
    "observation_uuid": "Id of that observation.",
    "quality_grade": "iNaturalist's quality grade of the observation.",
    "observed_on": "Date of the observation.",
    "latitude": "Latitude in degrees (WGS 84), rounded.",
    "longitude": "Longitude in degrees (WGS 84), rounded.",
    "positional_accuracy": "Accuracy of the place in metres, as the observer gave it.",
    "width": "Width in pixels.",
    "height": "Height in pixels.",
    "format": "Image format.",
    "sha256": "sha256 of the photograph's bytes.",
    "dhash": "Perceptual difference hash; near-duplicates differ in few bits.",
    "shard": "sha256 of the tar that holds the photograph.",
    "offset": "Where the photograph's bytes begin in that tar.",
    "size": "Bytes of the photograph.",
}
_TERMS = {
    "label": _DWC + "scientificName",
    "photo_url": _AC + "accessURI",
    "sha256": _AC + "hashValue",
    "taxon_rank": _DWC + "taxonRank",
    "kingdom": _DWC + "kingdom",
    "phylum": _DWC + "phylum",
    "class": _DWC + "class",
    "order": _DWC + "order",
    "family": _DWC + "family",
    "genus": _DWC + "genus",
    "taxon_id": _DWC + "taxonID",
    "license_url": _DCT + "license",
    "creator": _DCT + "creator",
    "observation_url": _DWC + "occurrenceID",
    "observed_on": _DWC + "eventDate",
    "latitude": _DWC + "decimalLatitude",
    "longitude": _DWC + "decimalLongitude",
    "positional_accuracy": _DWC + "coordinateUncertaintyInMeters",
}

MANIFEST_FIELDS: tuple[Column, ...] = tuple(
    Column(name, "sc:URL" if name in _URLS else _TYPES[dtype], _DESCRIPTIONS[name], _TERMS.get(name))
    for name, dtype in MANIFEST.items()
)


def record_sets(statistics: Statistics, files: Sequence[DatasetFile]) -> list[dict[str, Any]]:
    """The record sets `splits`, `taxa`, `manifest` and `samples`."""
    manifest = {
        "@type": "cr:RecordSet",
        "@id": "manifest",
        "name": "manifest",
        "description": "One record per photograph, in order of photo_id.",
        "key": {"@id": "manifest/photo_id"},
        "field": [_read("manifest", column, only(files, "manifest")) for column in MANIFEST_FIELDS],
    }
    return [_splits(statistics), _taxa(only(files, "taxa")), manifest, _samples()]


def _read(record_set: str, column: Column, file: DatasetFile) -> dict[str, Any]:
    return {
        **_field(f"{record_set}/{column.name}", column),
        "source": {"fileObject": {"@id": file.name}, "extract": {"column": column.name}},
    }


def _field(identity: str, column: Column, types: Sequence[str] = ()) -> dict[str, Any]:
    kinds = [column.data_type, *types]
    return {
        "@type": "cr:Field",
        "@id": identity,
        "name": identity.rpartition("/")[2],
        "description": column.description,
        "dataType": kinds[0] if len(kinds) == 1 else kinds,
        **({"equivalentProperty": column.term} if column.term else {}),
    }


def _samples() -> dict[str, Any]:
    """Each photograph with what the manifest says of it.

    The join starts at the manifest and looks the image up by its name in the shards, so shards may hold
    more. The reader allows one join per record set, and its columns for a file's path clash with those of a
    table read directly: hence the join is from the manifest's *record set*.
    """
    columns = {column.name: column for column in MANIFEST_FIELDS}
    special = {"label": ["cr:Label"], "split": ["cr:Split"]}
    fields = []
    for name, column in columns.items():
        field = _field(f"samples/{name}", column, special.get(name, ()))
        field["source"] = {"field": {"@id": f"manifest/{name}"}}
        if name == "file_name":
            field["references"] = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "filename"}}
        fields.append(field)
    image = _field("samples/image", Column("image", "sc:ImageObject", "The photograph."))
    image["source"] = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "content"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "The photographs with their labels: exactly the rows of the manifest.",
        "key": {"@id": "samples/photo_id"},
        "field": [image, *fields],
    }


def _splits(statistics: Statistics) -> dict[str, Any]:
    known = all(split in _SPLITS for split in statistics.splits)
    name = _field("splits/name", Column("name", "sc:Text", "Name of the split, as in the manifest."))
    # The specification's example says cr:Split alone; the reader needs a type it can cast to beside it.
    url = _field("splits/url", Column("url", "sc:URL", "What kind of split it is."), ["cr:Split"])
    photos = _field("splits/photos", Column("photos", "sc:Integer", "Number of its photographs."))
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "All photographs of an observation are in one split, the same in every version.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [name, url, photos] if known else [name, photos],
        "data": [
            {
                "splits/name": split,
                **({"splits/url": _SPLITS[split]} if known else {}),
                "splits/photos": count,
            }
            for split, count in statistics.splits.items()
        ],
    }


def _taxa(file: DatasetFile) -> dict[str, Any]:
    # The taxon of a photograph as identified and that of its label are two terms of one vocabulary: here the
    # label is the taxon.
    columns = {column.name: column for column in MANIFEST_FIELDS}
    columns["label_id"] = replace(columns["label_id"], term=_DWC + "taxonID")
    return {
        "@type": "cr:RecordSet",
        "@id": "taxa",
        "name": "taxa",
        "description": "The labels: iNaturalist taxa with their classification, in order of label_id.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "taxa/label_id"},
        "field": [_read("taxa", columns[name], file) for name in TAXA.names],
    }
