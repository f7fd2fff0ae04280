"""Croissant 1.1: the machine-readable description from which any Croissant reader can load the dataset.

The document is written as JSON here, not through mlcroissant's classes, which cannot say all that the
format can. Where the reference reader (mlcroissant 1.1) and the specification differ, the document is what
both accept; each such place says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from typing import Any

from lakehouse.campaign import Creator
from lakehouse.catalog.croissant_check import CONFORMS_TO, validate
from lakehouse.catalog.croissant_records import record_sets
from lakehouse.catalog.files import DatasetFile, checked, of_role
from lakehouse.catalog.licensing import dataset_licence
from lakehouse.catalog.responsible import responsible
from lakehouse.catalog.statistics import Statistics
from lakehouse.errors import CatalogError
from lakehouse.snapshots.model import Root, Version

__all__ = ["bibtex", "describe", "keywords", "party", "semantic", "to_json", "validate"]

_IMAGES = ("*.jpg", "*.jpeg", "*.png", "*.gif", "*.webp")

# The specification's example says http://schema.org/; the reference reader accepts https only. All of the
# standard keys are mapped, used or not, because it warns of any that is missing.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "annotation": "cr:annotation",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "dwc": "http://rs.tdwg.org/dwc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def describe(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    *,
    page: str | None = None,
    same_as: Sequence[str] = (),
) -> dict[str, Any]:
    """The Croissant description of one version.

    Parameters
    ----------
    version, root
        The version and the snapshot it names.
    statistics
        `summarize(manifest)` of that snapshot.
    files
        Every file of the dataset but this description; exactly one of role `manifest`, at least one
        `shard`. Addresses are absolute or relative to where the document will stand. A shard may hold
        photographs that are not in the manifest (`samples` leaves them out), but a photograph of the
        manifest must be in one shard only.
    page
        The dataset's landing page; without one its `url` is a URN of the snapshot's digest.
    same_as
        Other addresses of the same dataset: DOI, Hub, CKAN. The URN of the content digest is always added.

    Raises
    ------
    CatalogError
        The files or the statistics are not those of this snapshot, or a licence is unknown.
    """
    if (statistics.photos, statistics.licenses) != (root.counts.photos, root.counts.licenses):
        raise CatalogError(
            f"{version.ref}: the manifest has {statistics.photos} photographs and the snapshot "
            f"{root.counts.photos}, or their licences differ; describe a snapshot by its own manifest"
        )
    files = checked([file for file in files if file.role != "croissant"])
    created, licence = version.created_at, dataset_licence(statistics.licenses)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": version.campaign,
        "alternateName": version.about.title,
        "description": version.about.description,
        "url": page or f"urn:sha256:{version.snapshot_id}",
        "sameAs": [*same_as, f"urn:sha256:{root.content_id}"],
        "identifier": [f"sha256:{root.content_id}", f"snapshot:{version.snapshot_id}"],
        "version": semantic(version),
        "datePublished": created,
        "dateCreated": created,
        "dateModified": created,
        "creator": [party(creator) for creator in version.about.creators],
        "publisher": [party(creator) for creator in version.about.creators],
        "license": licence.urls,
        # This description grants no more than the dataset that it belongs to.
        "sdLicense": licence.urls,
        "usageInfo": "Each photograph keeps its own licence: see the columns license and attribution.",
        "keywords": keywords(statistics),
        "inLanguage": "en",
        "isLiveDataset": False,
        "citeAs": bibtex(version, root, page),
        "size": f"{statistics.photos:,} photographs of {len(statistics.labels):,} labels",
        **_coverage(statistics),
        **_provenance(version, root),
        **responsible(root, statistics),
        "distribution": _distribution(statistics, files),
        "recordSet": record_sets(statistics, files),
    }


def to_json(description: Mapping[str, Any]) -> bytes:
    """The description as the bytes of `croissant.json`: UTF-8, indented, the same for the same
    description."""
    return (json.dumps(description, ensure_ascii=False, indent=1) + "\n").encode()


def semantic(version: Version) -> str:
    """The version as Croissant wants it: `v3` is `3.0.0`, as photographs may be replaced or removed in each,
    and `3.0.1` after photographs were taken back from it once."""
    return f"{version.version}.0.{len(version.redacts)}"


def party(creator: Creator) -> dict[str, str]:
    """A creator as schema.org has it: a person if the URL is an ORCID, else an organisation."""
    kind = "sc:Person" if creator.url and "orcid.org/" in creator.url else "sc:Organization"
    return {"@type": kind, "name": creator.name, **({"url": creator.url} if creator.url else {})}


def keywords(statistics: Statistics) -> list[str]:
    """What people search for: the subject, then kingdoms and classes in order of photographs."""
    groups = [*statistics.kingdoms, *list(statistics.classes)[:12]]
    return list(dict.fromkeys(["biodiversity", "species", "image classification", *groups]))


def bibtex(version: Version, root: Root, page: str | None = None) -> str:
    """A BibTeX entry; it cites the content digest, which stays the same wherever the dataset was built."""
    names = " and ".join("{" + _tex(creator.name) + "}" for creator in version.about.creators)
    fields = {
        "title": "{" + _tex(version.about.title) + "}",
        "author": names,
        "year": version.created_at[:4],
        "version": semantic(version),
        "note": f"{version.ref}, content sha256:{root.content_id}",
        **({"url": page} if page else {}),
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{version.campaign}-v{version.version},\n{body}\n}}"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {char: "\\" + char for char in "&%$#_{}"}
    return "".join(special.get(char, char) for char in " ".join(text.split()))


def _coverage(statistics: Statistics) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if statistics.observed_from and statistics.observed_to:
        found["temporalCoverage"] = f"{statistics.observed_from}/{statistics.observed_to}"
    if box := statistics.box:
        # schema.org's box is "south west north east".
        corners = f"{box.south:g} {box.west:g} {box.north:g} {box.east:g}"
        found["spatialCoverage"] = {"@type": "sc:Place", "geo": {"@type": "sc:GeoShape", "box": corners}}
    return found


def _provenance(version: Version, root: Root) -> dict[str, Any]:
    inputs = root.inputs
    # Source: sources.base.Release: a release's id begins with the date of its newest table.
    dated = re.match(r"(\d{4})(\d{2})(\d{2})-", inputs.release)
    source = {
        "@type": ["prov:Entity", "sc:Dataset"],
        "name": f"{inputs.source}, release {inputs.release}",
        "url": inputs.reference_url,
        "version": inputs.release,
        **({"datePublished": "-".join(dated.groups())} if dated else {}),
        "prov:hadMember": [
            {"@type": "prov:Entity", "name": table, "sha256": digest}
            for table, digest in sorted(inputs.tables.items())
        ],
    }
    software = {
        "@type": "prov:SoftwareAgent",
        "name": "lakehouse",
        "softwareVersion": installed("lakehouse"),
    }
    parameters = json.dumps(root.parameters, ensure_ascii=False, sort_keys=True)
    # The parameters are what makes the dataset reproducible; as text, so that no reader takes them for
    # properties.
    activity = {
        "@type": "prov:Activity",
        "name": f"Building {version.ref}",
        "description": f"Campaign parameters: {parameters}",
        "prov:endedAtTime": version.created_at,
        "prov:wasAssociatedWith": software,
    }
    derived: list[dict[str, Any]] = [source]
    if version.parent:
        before = {
            "@type": ["prov:Entity", "sc:Dataset"],
            "name": f"{version.campaign}, the version before",
            "identifier": f"snapshot:{version.parent}",
        }
        derived.append(before)
    return {"prov:wasDerivedFrom": derived, "prov:wasGeneratedBy": activity}


def _distribution(statistics: Statistics, files: Sequence[DatasetFile]) -> list[dict[str, Any]]:
    shards = of_role(files, "shard")
    if not shards:
        raise CatalogError("a dataset has at least one shard; none is among its files")
    listed = [_file_object(file) for file in files]
    images = {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "description": "The photographs in the shards, each named by its photo_id.",
        "containedIn": [{"@id": shard.name} for shard in shards],
        "encodingFormat": [f"image/{name}" for name in statistics.formats if name != "unknown"]
        or "image/jpeg",
        "includes": list(_IMAGES),
    }
    return [*listed, images]


def _file_object(file: DatasetFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "description": file.description,
        "contentUrl": file.url,
        "contentSize": f"{file.size} B",
        "encodingFormat": file.media_type,
        "sha256": file.sha256,
    }
