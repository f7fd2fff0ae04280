"""A version as a Darwin Core Archive: occurrences with their photographs, for biodiversity tools.

The core has one row per observation, the extension (GBIF's Simple Multimedia) one per photograph. Both are
streamed from the lake in sorted order, so memory stays bounded, and the same version gives the same bytes.

Sources: Darwin Core text guide (TDWG, 2023); GBIF metadata profile 1.3 on EML 2.2; GBIF extension
`http://rs.gbif.org/terms/1.0/Multimedia`.
"""

from __future__ import annotations

import io
import math
import shutil
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl

from lakehouse.campaign import Creator
from lakehouse.catalog.citation import orcid, title, urn
from lakehouse.catalog.croissant import keywords, semantic
from lakehouse.catalog.files import DatasetFile, describe_file
from lakehouse.catalog.licensing import dataset_licence
from lakehouse.catalog.plain import is_web_address, plain
from lakehouse.catalog.responsible import collection, is_synthetic, preprocessing
from lakehouse.catalog.statistics import Statistics, summarize
from lakehouse.errors import UsageError
from lakehouse.progress import task
from lakehouse.snapshots.model import Root, Version
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.tables import rows

DWC, DCTERMS = "http://rs.tdwg.org/dwc/terms/", "http://purl.org/dc/terms/"
_TEXT = "http://rs.tdwg.org/dwc/text/"
_EML = "https://eml.ecoinformatics.org/eml-2.2.0"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
TAXON_URL = "https://www.inaturalist.org/taxa/"
METRES_PER_DEGREE = 111_320  # of latitude, and of longitude at the equator: the largest there is

# Term of each column of the core; the first column is the id that the extension refers to.
OCCURRENCE = {
    "occurrenceID": DWC,
    "references": DCTERMS,
    "basisOfRecord": DWC,
    "datasetID": DWC,
    "datasetName": DWC,
    "recordedBy": DWC,
    "eventDate": DWC,
    "decimalLatitude": DWC,
    "decimalLongitude": DWC,
    "geodeticDatum": DWC,
    "coordinateUncertaintyInMeters": DWC,
    "coordinatePrecision": DWC,
    "dataGeneralizations": DWC,
    "taxonID": DWC,
    "scientificName": DWC,
    "taxonRank": DWC,
    **dict.fromkeys(("kingdom", "phylum", "class", "order", "family", "genus"), DWC),
    "verbatimIdentification": DWC,
    "identificationVerificationStatus": DWC,
    "occurrenceRemarks": DWC,
}
# Likewise of the extension, after the id of the observation.
MULTIMEDIA = dict.fromkeys(
    ("type", "format", "identifier", "references", "title", "creator", "license", "rightsHolder"), DCTERMS
)
# What would break a line or a column, or no XML could hold; see `plain`, which does the same to one text.
_UNFIT = r"[\p{Cc}\p{Zl}\p{Zp}\u{202A}-\u{202E}\u{2066}-\u{2069}\u{FDD0}-\u{FDEF}\u{FFFE}\u{FFFF}\s]+"


def export_darwin_core(snapshot: Snapshot, target: Path) -> list[DatasetFile]:
    """Write the archive of a snapshot to `target`, a new `.zip` file, or a new folder of the same files.

    Returns
    -------
    list[DatasetFile]
        What was written: the one `.zip`, or each file of the folder.

    Raises
    ------
    UsageError
        `target` is there already (an empty folder may be).
    CatalogError
        A photograph has an unknown licence; nothing is written then.
    """
    target = target.absolute()
    zipped = target.suffix == ".zip"
    if target.exists() and (zipped or not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already; give a new file or folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
    statistics = summarize(snapshot.manifest)
    members: dict[str, Callable[[BinaryIO], None]] = {
        "meta.xml": lambda out: _write(out, _meta()),
        "eml.xml": lambda out: _write(out, eml(snapshot.version, snapshot.root, statistics)),
        "occurrence.txt": lambda out: _stream(out, _occurrences(snapshot)),
        "multimedia.txt": lambda out: _stream(out, _photographs(snapshot)),
    }
    if zipped:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, fill in members.items():
                # Without a date of its own a member would carry the time of the export.
                member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with archive.open(member, "w", force_zip64=True) as stream:
                    fill(stream)  # type: ignore[arg-type]
    else:
        partial.mkdir()
        for name, fill in members.items():
            with (partial / name).open("wb") as file:
                fill(file)
        if target.exists():
            target.rmdir()
    written = (
        [describe_file(partial, target.name, "archive")]
        if zipped
        else [describe_file(partial / name, name, "archive") for name in members]
    )
    partial.rename(target)
    return written


def _write(out: BinaryIO, data: bytes) -> None:
    out.write(data)


def _stream(out: BinaryIO, frames: Iterator[pl.DataFrame]) -> None:
    """Tab-separated lines with a header; nothing is quoted, because no value holds a tab or a line break."""
    for place, frame in enumerate(frames):
        text = frame.with_columns(pl.col(pl.String).str.replace_all(_UNFIT, " ").str.strip_chars()).write_csv(
            separator="\t", quote_style="never", include_header=place == 0, null_value=""
        )
        out.write(text.encode())


def _occurrences(snapshot: Snapshot) -> Iterator[pl.DataFrame]:
    """The core, one row per observation in order of its id; what its photographs say alike is taken from the
    first of them."""
    version, root = snapshot.version, snapshot.root
    decimals = _decimals(root)
    radius = 0 if decimals is None else math.ceil(METRES_PER_DEGREE * 10.0**-decimals / math.sqrt(2))
    generalized = f"Coordinates rounded to {decimals} decimals of a degree"
    located = pl.col("latitude").is_not_null() & pl.col("longitude").is_not_null()
    remark = collection(root) if is_synthetic(root) else ""
    said = {
        "id": pl.col("observation_uuid"),
        "occurrenceID": pl.col("observation_url"),
        "references": pl.col("observation_url"),
        "basisOfRecord": pl.lit("HumanObservation"),
        "datasetID": pl.lit(urn(root.content_id)),
        "datasetName": pl.lit(title(version)),
        "recordedBy": pl.col("creator"),
        "eventDate": pl.col("observed_on").dt.to_string("iso"),
        "decimalLatitude": pl.col("latitude"),
        "decimalLongitude": pl.col("longitude"),
        "geodeticDatum": pl.when(located).then(pl.lit("EPSG:4326")),
        # The circle must hold the true place: its own accuracy and half the diagonal of the rounding's cell.
        "coordinateUncertaintyInMeters": pl.when(located).then(pl.col("positional_accuracy") + radius),
        "coordinatePrecision": pl.when(located).then(pl.lit(None if decimals is None else 10.0**-decimals)),
        "dataGeneralizations": pl.when(located).then(pl.lit(None if decimals is None else generalized)),
        "taxonID": pl.lit(TAXON_URL) + pl.col("label_id").cast(pl.String),
        "scientificName": pl.col("label"),
        "taxonRank": pl.col("taxon_rank"),
        **{rank: pl.col(rank) for rank in ("kingdom", "phylum", "class", "order", "family", "genus")},
        "verbatimIdentification": pl.lit(TAXON_URL) + pl.col("taxon_id").cast(pl.String),
        "identificationVerificationStatus": pl.col("quality_grade"),
        "occurrenceRemarks": pl.lit(remark),
    }
    last: str | None = None
    for frame in _sorted_rows(snapshot, "occurrences"):
        first = frame.filter(
            pl.col("observation_uuid").ne_missing(pl.col("observation_uuid").shift(1, fill_value=last or ""))
        )
        last = frame["observation_uuid"][-1]
        yield first.select(**said)


def _photographs(snapshot: Snapshot) -> Iterator[pl.DataFrame]:
    """The extension, one row per photograph in order of its observation and its id."""
    said = {
        "id": pl.col("observation_uuid"),
        "type": pl.lit("StillImage"),
        "format": pl.lit("image/") + pl.col("format"),
        "identifier": pl.col("photo_url"),
        "references": pl.col("observation_url"),
        "title": pl.lit("Photograph ") + pl.col("photo_id").cast(pl.String),
        "creator": pl.col("creator"),
        "license": pl.col("license_url"),
        "rightsHolder": pl.col("creator"),
    }
    for frame in _sorted_rows(snapshot, "photographs"):
        yield frame.select(**said)


def _sorted_rows(snapshot: Snapshot, what: str) -> Iterator[pl.DataFrame]:
    with (
        task(f"export {what}", snapshot.root.counts.photos, "photo") as progress,
        snapshot.lake.connect() as connection,
    ):
        order = "observation_uuid, photo_id"
        for batch in rows(connection, snapshot.lake, snapshot.root, order_by=order):
            frame = pl.DataFrame(batch)
            if frame.height:
                yield frame
            progress.advance(frame.height)


def _decimals(root: Root) -> int | None:
    """How coarsely places are published, if the snapshot's parameters say."""
    chosen = root.parameters.get("coordinates")
    value = chosen.get("decimals") if isinstance(chosen, dict) else None
    return value if isinstance(value, int) else None


def _meta() -> bytes:
    """The archive's descriptor."""
    archive = ET.Element("archive", {"xmlns": _TEXT, "metadata": "eml.xml"})
    kinds = (
        ("core", DWC + "Occurrence", "occurrence.txt", "id", OCCURRENCE),
        ("extension", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", "coreid", MULTIMEDIA),
    )
    for kind, row_type, name, key, columns in kinds:
        described = ET.SubElement(
            archive,
            kind,
            {
                "encoding": "UTF-8",
                "fieldsTerminatedBy": "\\t",
                "linesTerminatedBy": "\\n",
                "fieldsEnclosedBy": "",
                "ignoreHeaderLines": "1",
                "rowType": row_type,
            },
        )
        ET.SubElement(ET.SubElement(described, "files"), "location").text = name
        ET.SubElement(described, key, {"index": "0"})
        for place, (column, namespace) in enumerate(columns.items(), start=1):
            ET.SubElement(described, "field", {"index": str(place), "term": namespace + column})
    return _xml(archive)


def eml(version: Version, root: Root, statistics: Statistics) -> bytes:
    """The archive's metadata: EML 2.2 in GBIF's profile; raises CatalogError for an unknown licence."""
    about, licence = version.about, dataset_licence(statistics.licenses)
    ET.register_namespace("eml", _EML)
    ET.register_namespace("xsi", _XSI)
    document = ET.Element(
        f"{{{_EML}}}eml",
        {
            f"{{{_XSI}}}schemaLocation": f"{_EML} https://rs.gbif.org/schema/eml-gbif-profile/1.3/eml.xsd",
            "packageId": urn(root.content_id),
            "system": "http://gbif.org",
            "scope": "system",
            "{http://www.w3.org/XML/1998/namespace}lang": "en",
        },
    )
    dataset = ET.SubElement(document, "dataset")
    _text(dataset, "alternateIdentifier", version.ref)
    _text(dataset, "title", title(version))
    for creator in about.creators:
        _party(dataset, "creator", creator)
    _party(dataset, "metadataProvider", about.creators[0])
    _text(dataset, "pubDate", version.created_at[:10])
    _text(dataset, "language", "en")
    _text(ET.SubElement(dataset, "abstract"), "para", about.description)
    words = ET.SubElement(dataset, "keywordSet")
    for word in keywords(statistics):
        _text(words, "keyword", word)
    _text(words, "keywordThesaurus", "n/a")
    rights = ET.SubElement(ET.SubElement(dataset, "intellectualRights"), "para")
    rights.text = "Each photograph keeps the licence its photographer chose, given with it. They are: "
    for part in licence.parts:
        link = ET.SubElement(rights, "ulink", {"url": part.url})
        _text(link, "citetitle", part.title)
        link.tail = " "
    for part in licence.parts:
        licensed = ET.SubElement(dataset, "licensed")
        _text(licensed, "licenseName", part.title)
        _text(licensed, "url", part.url)
        _text(licensed, "identifier", part.spdx or part.code)
    _coverage(ET.SubElement(dataset, "coverage"), statistics)
    _party(dataset, "contact", about.creators[0])
    methods = ET.SubElement(ET.SubElement(dataset, "methods"), "methodStep")
    said = f"{collection(root)} {preprocessing(root)}"
    _text(ET.SubElement(methods, "description"), "para", said)
    extra = ET.SubElement(ET.SubElement(document, "additionalMetadata"), "metadata")
    gbif = ET.SubElement(extra, "gbif")
    _text(gbif, "dateStamp", version.created_at)
    names = ", ".join(creator.name for creator in about.creators)
    year = version.created_at[:4]
    _text(gbif, "citation", f"{names} ({year}). {title(version)}. Version {semantic(version)}.")
    return _xml(document)


def _coverage(coverage: ET.Element, statistics: Statistics) -> None:
    if box := statistics.box:
        place = ET.SubElement(coverage, "geographicCoverage")
        _text(place, "geographicDescription", "The smallest box that holds every published place.")
        bounds = ET.SubElement(place, "boundingCoordinates")
        sides = (("west", box.west), ("east", box.east), ("north", box.north), ("south", box.south))
        for side, value in sides:
            _text(bounds, f"{side}BoundingCoordinate", f"{value:g}")
    if statistics.observed_from and statistics.observed_to:
        span = ET.SubElement(ET.SubElement(coverage, "temporalCoverage"), "rangeOfDates")
        for end, day in (("beginDate", statistics.observed_from), ("endDate", statistics.observed_to)):
            _text(ET.SubElement(span, end), "calendarDate", day.isoformat())
    taxa = ET.SubElement(coverage, "taxonomicCoverage")
    _text(taxa, "generalTaxonomicCoverage", f"{len(statistics.labels):,} labels")
    for kingdom in statistics.kingdoms:
        found = ET.SubElement(taxa, "taxonomicClassification")
        _text(found, "taxonRankName", "kingdom")
        _text(found, "taxonRankValue", kingdom)


def _party(dataset: ET.Element, role: str, creator: Creator) -> None:
    party, known = ET.SubElement(dataset, role), orcid(creator)
    if known:
        # EML keeps given names apart where it knows them; a campaign file gives the whole name.
        _text(ET.SubElement(party, "individualName"), "surName", creator.name)
    else:
        _text(party, "organizationName", creator.name)
        if is_web_address(creator.url):
            _text(party, "onlineUrl", creator.url or "")
    if known:
        identifier = ET.SubElement(party, "userId", {"directory": "https://orcid.org/"})
        identifier.text = known.rsplit("/", 1)[-1]


def _text(parent: ET.Element, tag: str, value: str) -> None:
    ET.SubElement(parent, tag).text = plain(value)


def _xml(element: ET.Element) -> bytes:
    ET.indent(element)
    stream = io.BytesIO()
    ET.ElementTree(element).write(stream, encoding="UTF-8", xml_declaration=True)
    return stream.getvalue() + b"\n"
