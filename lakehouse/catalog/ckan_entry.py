"""What a version's entry in CKAN should be, and how an entry differs from that: pure functions over CKAN's
JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lakehouse.campaign import CkanTarget
from lakehouse.catalog.croissant import bibtex, semantic
from lakehouse.catalog.files import DatasetFile, checked
from lakehouse.catalog.licensing import DatasetLicence, dataset_licence
from lakehouse.catalog.markdown import linked, text
from lakehouse.catalog.statistics import BoundingBox, Statistics, human_bytes
from lakehouse.errors import CatalogError
from lakehouse.snapshots.model import Root, Version

# On every resource that is this project's; others in the same entry are left alone.
MARK = "lakehouse_role"
PLAIN = ("title", "notes", "author", "version", "license_id", "url", "private")
_RESOURCE = ("url", "hash", "size", "format", "mimetype", "description", MARK)
_FORMATS = {
    "shard": "TAR",
    "manifest": "Parquet",
    "attribution": "Parquet",
    "credits": "TXT",
    "taxa": "Parquet",
    "croissant": "JSON-LD",
    "card": "Markdown",
    "checksums": "TXT",
    "earlier": "JSON-LD",
}
# Groups of this project are named so; an entry's other groups are left alone.
_GROUP = "taxon-"
_MOST_GROUPS = 12
# What a visitor looks for comes first.
_ORDER = ("card", "croissant", "manifest", "taxa", "attribution", "credits", "figure", "checksums", "earlier")


# Extras of ours that a version may be without: an older version's must not stay.
OPTIONAL_EXTRAS = {"spatial", "temporal_start", "temporal_end", "previous_snapshot_id"}


def package(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    target: CkanTarget,
) -> dict[str, Any]:
    """The entry of a version in the form of CKAN's API, as it should be.

    Raises
    ------
    CatalogError
        A file has no public address, or a licence is unknown.
    """
    licence = dataset_licence(statistics.licenses)
    about, reference = version.about, root.inputs.reference_url
    return {
        "name": version.campaign,
        "title": about.title,
        "notes": _notes(version, statistics, licence),
        "author": ", ".join(creator.name for creator in about.creators),
        "version": semantic(version),
        "license_id": licence.ckan_id,
        # CKAN shows this address as the dataset's source.
        "url": reference if reference.startswith(("http://", "https://")) else "",
        "private": target.private,
        "owner_org": target.organization,
        "tags": [{"name": tag} for tag in _tags(root, statistics)],
        "groups": [{"name": name} for name in groups(statistics)],
        "extras": [
            {"key": key, "value": value}
            for key, value in sorted(_extras(version, root, statistics, licence.spdx).items())
        ],
        "resources": [_resource(file) for file in sorted(checked(files), key=_place)],
    }


def _place(file: DatasetFile) -> tuple[int, str]:
    return (_ORDER.index(file.role) if file.role in _ORDER else len(_ORDER), file.name)


def _notes(version: Version, statistics: Statistics, licence: DatasetLicence) -> str:
    """What CKAN shows on the page, as Markdown; the campaign's words cannot become markup."""
    parts = ", ".join(
        f"[{part.code}]({part.url}) {statistics.licenses[part.code]:,}" for part in licence.parts
    )
    people = ", ".join(linked(creator.name, creator.url) for creator in version.about.creators)
    return "\n\n".join(
        (
            text(version.about.description),
            f"**{statistics.photos:,} photographs** of **{len(statistics.labels):,} labels** by "
            f"{statistics.photographers:,} photographers ({statistics.size}), version {semantic(version)}.",
            f"Each photograph keeps its own licence ({parts}); `attribution.parquet` credits each.",
            f"To have a photograph taken out, write to {people}.",
        )
    )


def groups(statistics: Statistics) -> dict[str, str]:
    """The groups an entry should be in, titles by name: one for each of the classes with the most
    photographs."""
    slugs = {name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in statistics.classes}
    named = {_GROUP + slug: name for name, slug in slugs.items()}
    known = {name: title for name, title in named.items() if title != "unknown" and name != _GROUP}
    return {name[:100]: known[name] for name in list(known)[:_MOST_GROUPS]}


def is_our_group(name: str) -> bool:
    """Whether a group is one that entries of this project are put into."""
    return name.startswith(_GROUP)


def _extras(version: Version, root: Root, statistics: Statistics, spdx: str) -> dict[str, str]:
    counts = "; ".join(f"{code}: {count}" for code, count in statistics.licenses.items())
    extras = {
        "content_id": root.content_id,
        "snapshot_id": version.snapshot_id,
        "photos": str(statistics.photos),
        "labels": str(len(statistics.labels)),
        "observations": str(statistics.observations),
        "photographers": str(statistics.photographers),
        "bytes": str(statistics.bytes),
        "licences": counts,
        "licence_expression": spdx,
        "source": root.inputs.source,
        "source_release": root.inputs.release,
        "citation": bibtex(version, root),
    }
    if version.parent:
        extras["previous_snapshot_id"] = version.parent
    if statistics.box:
        extras["spatial"] = json.dumps(_geometry(statistics.box))
    if statistics.observed_from and statistics.observed_to:
        extras["temporal_start"] = statistics.observed_from.isoformat()
        extras["temporal_end"] = statistics.observed_to.isoformat()
    return extras


def _geometry(box: BoundingBox) -> dict[str, Any]:
    """The box as GeoJSON, counter-clockwise; one that has no area is a point or a line, which a polygon may
    not be."""
    west, south, east, north = box.west, box.south, box.east, box.north
    if (west, south) == (east, north):
        return {"type": "Point", "coordinates": [west, south]}
    if west == east or south == north:
        return {"type": "LineString", "coordinates": [[west, south], [east, north]]}
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _tags(root: Root, statistics: Statistics) -> list[str]:
    words = ["biodiversity", "images", "machine learning", root.inputs.source]
    words += [*statistics.kingdoms, *list(statistics.classes)[:20]]
    words = ["iNaturalist" if word == "inaturalist" else word for word in words if word != "unknown"]
    # Source: CKAN's tag validators: letters, digits, space and -_. and 2 to 100 characters.
    cleaned = (" ".join(re.sub(r"[^\w .-]", " ", word).split())[:100].strip() for word in words)
    return sorted({word for word in cleaned if len(word) >= 2})


def _resource(file: DatasetFile) -> dict[str, Any]:
    if not file.url.startswith(("https://", "http://", "s3://", "urn:sha256:")):
        raise CatalogError(
            f"{file.name} has no address that others can read ({file.url}); set "
            "LAKEHOUSE_PUBLIC_URL to where the lake is served"
        )
    # A lake names its shards by digests that are longer than a page is wide.
    name = re.sub(r"^([0-9a-f]{12})[0-9a-f]{52}\.", r"\1.", file.name)
    return {
        "name": name,
        "url": file.url,
        "hash": file.sha256,
        "size": file.size,
        "format": _FORMATS.get(file.role) or file.media_type.partition("/")[2].upper(),
        "mimetype": file.media_type,
        "description": f"{file.description} {human_bytes(file.size)}",
        MARK: file.role,
    }


def compare(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What of an entry is not as `package` would have it, one sentence each."""
    problems = [
        f"{name} is {found.get(name)!r}, not {wanted[name]!r}"
        for name in PLAIN
        if (found.get(name) or "") != (wanted[name] or "")
    ]
    owner = (found.get("organization") or {}).get("name")
    if owner != wanted["owner_org"]:
        problems.append(f"the organisation is {owner!r}, not {wanted['owner_org']!r}")
    tags, theirs = _names(wanted["tags"]), _names(found.get("tags") or ())
    if tags != theirs:
        problems.append(f"the tags are {', '.join(sorted(theirs)) or 'none'}, not {', '.join(sorted(tags))}")
    wanted_groups, in_groups = _names(wanted["groups"]), _names(found.get("groups") or ())
    problems += [f"it is not in the group {name}" for name in sorted(wanted_groups - in_groups)]
    problems += [
        f"the group {name} is not one of this version's"
        for name in sorted(in_groups - wanted_groups)
        if is_our_group(name)
    ]
    there_extras = {extra["key"] for extra in found.get("extras") or ()}
    wanted_extras = {extra["key"] for extra in wanted["extras"]}
    problems += [
        f"the extra {key} is not this version's"
        for key in sorted(there_extras & OPTIONAL_EXTRAS - wanted_extras)
    ]
    extras = {extra["key"]: extra["value"] for extra in found.get("extras") or ()}
    problems += [
        f"the extra {extra['key']} is {extras.get(extra['key'])!r}, not {extra['value']!r}"
        for extra in wanted["extras"]
        if extras.get(extra["key"]) != extra["value"]
    ]
    return [*problems, *_compare_resources(ours(found), wanted["resources"])]


def _compare_resources(found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    theirs = {resource["name"]: resource for resource in found}
    problems = []
    for resource in wanted:
        there = theirs.get(resource["name"])
        if there is None:
            problems.append(f"the resource {resource['name']} is missing")
            continue
        problems += [
            f"{name} of the resource {resource['name']} is {there.get(name)!r}, not {resource[name]!r}"
            for name in _RESOURCE
            if there.get(name) != resource[name]
        ]
    names = {resource["name"] for resource in wanted}
    problems += [f"the resource {name} is not of this version" for name in theirs if name not in names]
    if len(theirs) != len(found):
        problems.append("two resources have one name")
    return problems


def major(found: Mapping[str, Any]) -> int:
    """The number of the version an entry shows; 0 if it shows none of this project's form."""
    number = re.fullmatch(r"(\d+)\.\d+\.\d+", str(found.get("version") or ""))
    return int(number[1]) if number else 0


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether an entry was published from a lake."""
    return "content_id" in {extra["key"] for extra in found.get("extras") or ()}


def ours(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The resources of an entry that a lake published."""
    return [resource for resource in found.get("resources") or () if MARK in resource]


def _names(tags: Iterable[Mapping[str, Any]]) -> set[str]:
    return {str(tag["name"]) for tag in tags}
