"""How a version is cited: valid DataCite and CFF, all of its licences, and never wider than they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from datacite import schema45

from lakehouse.campaign import Creator
from lakehouse.catalog.citation import Lineage, citation_cff, datacite, lineage_of
from lakehouse.catalog.publish import CITATIONS
from lakehouse.errors import CatalogError
from lakehouse.licences import LICENCES
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import About, Version
from lakehouse.snapshots.read import Snapshot
from tests.catalog.conftest import Published

HOSTILE = '</title><script>alert(1)</script> "x": [y] # z\r\n---\x00\x1b\u202e: &anchor *alias !!python'


def called(version: Version, text: str) -> Version:
    about = About(title=text, description=text, creators=(Creator(name=text, url=f"javascript:{text}"),))
    return version.model_copy(update={"about": about})


def cff(data: bytes) -> dict[str, Any]:
    return dict(yaml.safe_load(data))


def test_datacite_is_valid_by_its_schema(export: Published) -> None:
    document = datacite(
        export.version,
        export.root,
        export.statistics,
        export.files,
        page="https://example.org/d",
        doi="10.5072/x",
    )
    schema45.validator.validate(document)
    assert (document["doi"], document["url"]) == ("10.5072/x", "https://example.org/d")


def test_datacite_names_what_and_who(export: Published) -> None:
    document = datacite(export.version, export.root, export.statistics, export.files)
    assert document["types"]["resourceTypeGeneral"] == "Dataset"
    assert document["publicationYear"] == export.version.created_at[:4]
    assert document["version"] == "2.0.0"
    person, institute = document["creators"]
    assert person["nameIdentifiers"][0]["nameIdentifier"] == "https://orcid.org/0000-0002-1825-0097"
    assert institute == {"name": "Institute of Bees"}
    box = export.statistics.box
    assert box is not None
    assert document["geoLocations"][0]["geoLocationBox"]["westBoundLongitude"] == box.west
    assert "image/jpeg" in document["formats"] and "application/x-tar" in document["formats"]


def test_datacite_lists_every_licence_and_no_other(export: Published) -> None:
    document = datacite(export.version, export.root, export.statistics)
    assert [right["rightsUri"] for right in document["rightsList"]] == [
        licence.url for licence in LICENCES.values() if licence.code in export.statistics.licenses
    ]


def test_datacite_says_what_the_version_comes_from_follows_and_replaces(export: Published) -> None:
    lineage = Lineage(previous="a" * 64, obsoletes=("b" * 64,))
    document = datacite(export.version, export.root, export.statistics, lineage=lineage)
    schema45.validator.validate(document)
    assert [(one["relationType"], one["relatedIdentifier"]) for one in document["relatedIdentifiers"]] == [
        ("IsDerivedFrom", "https://example.org/open-data"),
        ("IsNewVersionOf", "urn:sha256:" + "a" * 64),
        ("Obsoletes", "urn:sha256:" + "b" * 64),
    ]


def test_a_version_follows_its_parent_while_the_lake_has_it(demo: Any, harmed_demo: Any) -> None:
    first, second = demo.first.version, demo.second.version
    content = refs.read_root(demo.lake, first.snapshot_id).content_id
    assert lineage_of(Snapshot(demo.lake, first)) == Lineage()
    assert lineage_of(Snapshot(demo.lake, second)) == Lineage(previous=content)
    harmed_demo.lake.delete(refs.root_key(first.snapshot_id))
    assert lineage_of(Snapshot(harmed_demo.lake, second)) == Lineage()


def test_the_citation_file_says_what_its_format_asks(export: Published) -> None:
    found = cff(citation_cff(export.version, export.root, export.statistics, page="https://example.org/d"))
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert (found["cff-version"], found["type"], found["version"]) == ("1.2.0", "dataset", "2.0.0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date-released"]), "a date in quotes, which stays text"
    assert found["authors"] == [
        {"name": "Ada_Example", "orcid": "https://orcid.org/0000-0002-1825-0097"},
        {"name": "Institute of Bees"},
    ]
    assert found["identifiers"][0]["value"] == f"urn:sha256:{export.root.content_id}"
    assert found["url"] == "https://example.org/d"


def test_the_citation_file_is_valid_to_its_own_tool(export: Published, tmp_path: Path) -> None:
    tool = shutil.which("cffconvert")
    if tool is None:
        pytest.skip("needs the command cffconvert, which asks for an older jsonschema than the tests do")
    for name, version in (("plain", export.version), ("hostile", called(export.version, HOSTILE))):
        path = tmp_path / f"{name}.cff"
        path.write_bytes(citation_cff(version, export.root, export.statistics, doi="10.5072/x"))
        done = subprocess.run(
            [tool, "--validate", "-i", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_several_licences_are_no_choice_between_them(export: Published) -> None:
    """In a CITATION.cff a list of licences means any of them."""
    mixed = cff(citation_cff(export.version, export.root, export.statistics))
    assert "license" not in mixed
    assert "CC0-1.0 AND CC-BY-4.0 AND CC-BY-NC-4.0" in " ".join(mixed["message"].split())
    alone = export.statistics.model_copy(update={"licenses": {"CC-BY": export.statistics.photos}})
    assert cff(citation_cff(export.version, export.root, alone))["license"] == "CC-BY-4.0"


def test_an_unknown_licence_is_cited_nowhere(export: Published) -> None:
    unknown = export.statistics.model_copy(update={"licenses": {"CC-BY-XX": 1}})
    for make in (datacite, citation_cff):
        with pytest.raises(CatalogError, match="CC-BY-XX"):
            make(export.version, export.root, unknown)


def test_hostile_text_is_only_text(export: Published) -> None:
    version = called(export.version, HOSTILE)
    document = datacite(version, export.root, export.statistics)
    schema45.validator.validate(document)
    json.dumps(document).encode()
    title = document["titles"][0]["title"]
    assert "alert(1)" in title and not re.search(r"[\x00-\x1f\u202e]", title)
    found = cff(citation_cff(version, export.root, export.statistics))
    assert found["title"] == found["authors"][0]["name"] == title
    assert "website" not in found["authors"][0], "only web addresses are linked"


def test_a_title_of_nothing_printable_is_the_name(export: Published) -> None:
    version = called(export.version, "\x00\u202e")
    assert datacite(version, export.root, export.statistics)["titles"] == [{"title": "pollinators"}]


def test_the_files_are_in_the_lake_and_valid(demo: Any) -> None:
    folder = demo.path / "catalog" / "demo" / "v2"
    assert {name for name in CITATIONS if (folder / name).is_file()} == set(CITATIONS)
    document = json.loads((folder / "datacite.json").read_bytes())
    schema45.validator.validate(document)
    previous = refs.read_root(demo.lake, demo.first.version.snapshot_id).content_id
    (related,) = document["relatedIdentifiers"]
    assert (related["relationType"], related["relatedIdentifier"]) == (
        "IsNewVersionOf",
        f"urn:sha256:{previous}",
    )
