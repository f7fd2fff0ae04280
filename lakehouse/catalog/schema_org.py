"""`dataset.jsonld`: a version for search engines, as schema.org/Dataset.

It is what a landing page embeds, so it stays small: the photographs' archives are described by
`croissant.json`, to which it leads. Source of what is asked for: Google's guide to structured data for
datasets (name, and a description of 50 to 5,000 characters, are required).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakehouse.campaign import Creator
from lakehouse.catalog.citation import orcid, title, urn
from lakehouse.catalog.croissant import keywords, semantic
from lakehouse.catalog.files import DatasetFile
from lakehouse.catalog.licensing import dataset_licence
from lakehouse.catalog.plain import is_web_address, plain
from lakehouse.catalog.statistics import Statistics
from lakehouse.snapshots.model import Root, Version

SHORTEST, LONGEST = 50, 5_000  # characters of a description
_LISTED = ("manifest", "attribution", "credits", "croissant", "card", "taxa")


def dataset_jsonld(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    *,
    page: str | None = None,
    doi: str | None = None,
    image: str | None = None,
) -> dict[str, Any]:
    """The schema.org description of a version.

    Parameters
    ----------
    version, root, statistics
        The version, its snapshot, and `summarize(manifest)` of it.
    files
        The dataset's files with addresses relative to where the description will stand, or absolute; the
        tables and descriptions among them are listed as downloads.
    page, doi
        As for `citation.datacite`.
    image
        The address of a picture of the dataset.

    Raises
    ------
    CatalogError
        A photograph has an unknown licence.
    """
    about, inputs = version.about, root.inputs
    identifiers: list[Any] = [urn(root.content_id), urn(version.snapshot_id)]
    if doi:
        identifiers.insert(0, f"https://doi.org/{doi}")
    found: dict[str, Any] = {
        # A mapping, and not schema.org's address: readers would have to fetch that one.
        "@context": {"@vocab": "https://schema.org/"},
        "@type": "Dataset",
        **({"@id": page} if page else {}),
        "name": title(version),
        "alternateName": version.ref,
        "description": _description(version, statistics),
        "url": page or urn(root.content_id),
        "identifier": identifiers,
        "version": semantic(version),
        "datePublished": version.created_at[:10],
        "license": dataset_licence(statistics.licenses).urls,
        "isAccessibleForFree": True,
        "inLanguage": "en",
        "keywords": [plain(word) for word in keywords(statistics)],
        "creator": [_party(creator) for creator in about.creators],
        "publisher": _party(about.creators[0]),
        "isBasedOn": {
            "@type": "Dataset",
            "name": plain(f"{inputs.source}, release {inputs.release}"),
            "description": "The release of the source that the photographs of this dataset were chosen from.",
            **({"url": inputs.reference_url} if is_web_address(inputs.reference_url) else {}),
        },
        "distribution": [_download(file) for file in files if file.role in _LISTED],
        "size": f"{statistics.photos:,} photographs of {len(statistics.labels):,} labels, {statistics.size}",
    }
    if image:
        found["image"] = image
    if statistics.observed_from and statistics.observed_to:
        found["temporalCoverage"] = f"{statistics.observed_from}/{statistics.observed_to}"
    if box := statistics.box:
        corners = f"{box.south:g} {box.west:g} {box.north:g} {box.east:g}"
        found["spatialCoverage"] = {"@type": "Place", "geo": {"@type": "GeoShape", "box": corners}}
    return found


def _description(version: Version, statistics: Statistics) -> str:
    said = plain(version.about.description)
    counted = (
        f"{statistics.photos:,} photographs of {len(statistics.labels):,} labels by "
        f"{statistics.photographers:,} photographers, each under its own open licence, split for machine "
        "learning."
    )
    full = f"{said}{'' if said.endswith(('.', '!', '?')) else '.'} {counted}"
    if len(full) <= LONGEST:
        return full
    room = LONGEST - len(counted) - 3
    return f"{said[:room].rsplit(' ', 1)[0]}… {counted}"


def _party(creator: Creator) -> dict[str, str]:
    known = orcid(creator)
    found = {"@type": "Person" if known else "Organization", "name": plain(creator.name)}
    if known:
        found["sameAs"] = known
    elif creator.url and is_web_address(creator.url):
        found["url"] = creator.url
    return found


def _download(file: DatasetFile) -> dict[str, str]:
    return {
        "@type": "DataDownload",
        "name": file.name,
        "contentUrl": file.url,
        "contentSize": f"{file.size} B",
        "encodingFormat": file.media_type,
        "sha256": file.sha256,
    }
