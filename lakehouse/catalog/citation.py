"""How a version is cited: DataCite metadata for whoever registers a DOI, and a CITATION.cff.

Both are generated from the version, its root and its statistics alone, so that the same version is cited
with the same words wherever it was built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lakehouse.campaign import Creator
from lakehouse.catalog.croissant import keywords, semantic
from lakehouse.catalog.files import DatasetFile
from lakehouse.catalog.licensing import dataset_licence
from lakehouse.catalog.plain import is_web_address, plain
from lakehouse.catalog.responsible import collection, preprocessing
from lakehouse.catalog.statistics import Statistics
from lakehouse.errors import NotFoundError
from lakehouse.licences import Licence
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import Root, Version
from lakehouse.snapshots.read import Snapshot

# Source: CFF 1.2.0's schema, which takes an ORCID as an https address only.
_ORCID = re.compile(r"https?://(?:www\.)?orcid\.org/(\d{4}-\d{4}-\d{4}-\d{3}[\dX])/?")


@dataclass(frozen=True, slots=True)
class Lineage:
    """Digests of other versions of a dataset: the content of the one before (`previous`), and the snapshots
    that this one replaces because photographs had to be removed from them (`obsoletes`)."""

    previous: str | None = None
    obsoletes: tuple[str, ...] = ()


def lineage_of(snapshot: Snapshot) -> Lineage:
    """What a snapshot follows, as its lake still knows it."""
    parent, obsoletes = snapshot.version.parent, snapshot.version.redacts
    if parent is None:
        return Lineage(obsoletes=obsoletes)
    try:
        return Lineage(refs.read_root(snapshot.lake, parent).content_id, obsoletes)
    except NotFoundError:  # it was taken back since
        return Lineage(obsoletes=obsoletes)


def urn(content_id: str) -> str:
    """The identifier that a version has without any registry: the URN of its content digest."""
    return f"urn:sha256:{content_id}"


def title(version: Version) -> str:
    """A version's title as one clean line; its campaign's name if nothing is left of it."""
    return plain(version.about.title) or version.campaign


def orcid(creator: Creator) -> str | None:
    """A creator's ORCID as its https address, if that is what its URL is."""
    found = _ORCID.fullmatch(creator.url or "")
    return f"https://orcid.org/{found[1]}" if found else None


def datacite(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile] = (),
    *,
    page: str | None = None,
    doi: str | None = None,
    lineage: Lineage = Lineage(),
) -> dict[str, Any]:
    """The DataCite metadata (schema 4.5) of a version, as DataCite's REST API takes it.

    Parameters
    ----------
    version, root, statistics
        The version, its snapshot, and `summarize(manifest)` of it.
    files
        Files of the dataset; their media types are its formats.
    page
        The landing page that a DOI would lead to.
    doi
        The version's DOI, where it has one.
    lineage
        Other versions that this one follows or replaces.

    Raises
    ------
    CatalogError
        A photograph has an unknown licence.
    """
    inputs, about = root.inputs, version.about
    related = []
    if is_web_address(inputs.reference_url):
        related.append(_related(inputs.reference_url, "URL", "IsDerivedFrom"))
    if lineage.previous:
        related.append(_related(urn(lineage.previous), "URN", "IsNewVersionOf"))
    related += [_related(urn(digest), "URN", "Obsoletes") for digest in lineage.obsoletes]
    dates = [{"date": version.created_at[:10], "dateType": "Issued"}]
    if statistics.observed_from and statistics.observed_to:
        collected = f"{statistics.observed_from}/{statistics.observed_to}"
        dates.append({"date": collected, "dateType": "Collected"})
    found: dict[str, Any] = {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Image dataset"},
        "creators": [_datacite_creator(creator) for creator in about.creators],
        "titles": [{"title": title(version)}],
        "publisher": {"name": plain(about.creators[0].name)},
        "publicationYear": version.created_at[:4],
        "version": semantic(version),
        "language": "en",
        "subjects": [{"subject": plain(word)} for word in keywords(statistics)],
        "dates": dates,
        "alternateIdentifiers": [
            {"alternateIdentifier": root.content_id, "alternateIdentifierType": "SHA-256 of the content"},
            {
                "alternateIdentifier": version.snapshot_id,
                "alternateIdentifierType": "SHA-256 of the snapshot",
            },
        ],
        "relatedIdentifiers": related,
        "sizes": [f"{statistics.photos} photographs", f"{len(statistics.labels)} labels", statistics.size],
        "formats": sorted({file.media_type for file in files} | _image_types(statistics)),
        "rightsList": [_rights(part) for part in dataset_licence(statistics.licenses).parts],
        "descriptions": [
            {"description": plain(about.description), "descriptionType": "Abstract"},
            {"description": plain(f"{collection(root)} {preprocessing(root)}"), "descriptionType": "Methods"},
        ],
    }
    if page:
        found["url"] = page
    if doi:
        found["doi"] = doi
    if box := statistics.box:
        bounds = {
            "westBoundLongitude": box.west,
            "eastBoundLongitude": box.east,
            "southBoundLatitude": box.south,
            "northBoundLatitude": box.north,
        }
        found["geoLocations"] = [{"geoLocationBox": bounds}]
    return found


def citation_cff(
    version: Version,
    root: Root,
    statistics: Statistics,
    *,
    page: str | None = None,
    doi: str | None = None,
) -> bytes:
    """The bytes of `CITATION.cff` (Citation File Format 1.2.0); parameters as for `datacite`.

    Raises
    ------
    CatalogError
        A photograph has an unknown licence.
    """
    licence, about = dataset_licence(statistics.licenses), version.about
    values: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it as below, and credit the photographers as their "
        f"licences ask ({licence.spdx}; see the attribution table).",
        "type": "dataset",
        "title": title(version),
        "abstract": plain(about.description),
        "authors": [_cff_author(creator) for creator in about.creators],
        "version": semantic(version),
        "date-released": version.created_at[:10],
        "identifiers": [
            {"type": "other", "value": urn(root.content_id), "description": "Digest of the content"},
            *([{"type": "doi", "value": doi}] if doi else []),
        ],
        "keywords": [plain(word) for word in keywords(statistics)],
    }
    # Several licences in a list would mean a choice between them; here each holds for its photographs.
    if len(licence.parts) == 1 and licence.parts[0].spdx:
        values["license"] = licence.parts[0].spdx
    if doi:
        values["doi"] = doi
    if page:
        values["url"] = page
    inputs = root.inputs
    source: dict[str, Any] = {
        "type": "data",
        "title": plain(f"{inputs.source}, release {inputs.release}"),
        "authors": [{"name": plain(inputs.source)}],
        "version": plain(inputs.release),
    }
    if is_web_address(inputs.reference_url):
        source["url"] = inputs.reference_url
    values["references"] = [source]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100).encode()


def _related(identifier: str, kind: str, relation: str) -> dict[str, str]:
    return {
        "relatedIdentifier": identifier,
        "relatedIdentifierType": kind,
        "relationType": relation,
        "resourceTypeGeneral": "Dataset",
    }


def _datacite_creator(creator: Creator) -> dict[str, Any]:
    found: dict[str, Any] = {"name": plain(creator.name)}
    if known := orcid(creator):
        found["nameType"] = "Personal"
        found["nameIdentifiers"] = [
            {
                "nameIdentifier": known,
                "nameIdentifierScheme": "ORCID",
                "schemeUri": "https://orcid.org",
            }
        ]
    return found


def _cff_author(creator: Creator) -> dict[str, str]:
    # CFF's persons have given and family names apart, which a campaign file does not tell; its entities have
    # one name.
    found = {"name": plain(creator.name)}
    if known := orcid(creator):
        return {**found, "orcid": known}
    if creator.url and is_web_address(creator.url):
        found["website"] = creator.url
    return found


def _rights(part: Licence) -> dict[str, str]:
    found = {"rights": part.title, "rightsUri": part.url}
    if part.spdx:
        # DataCite writes SPDX identifiers in lower case.
        found |= {
            "rightsIdentifier": part.spdx.lower(),
            "rightsIdentifierScheme": "SPDX",
            "schemeUri": "https://spdx.org/licenses/",
        }
    return found


def _image_types(statistics: Statistics) -> set[str]:
    return {f"image/{name}" for name in statistics.formats if name != "unknown"}
