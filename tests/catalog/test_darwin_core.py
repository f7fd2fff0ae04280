"""A Darwin Core Archive: what an independent reader finds in it is what the manifest says."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dwca.read import DwCAReader

from lakehouse.catalog import darwin_core
from lakehouse.catalog.darwin_core import METRES_PER_DEGREE, TAXON_URL, export_darwin_core
from lakehouse.errors import UsageError
from lakehouse.licences import LICENCES
from lakehouse.snapshots.read import Snapshot

DC = "http://purl.org/dc/terms/"
HOSTILE = "Tab\there \"quote\" <b>\r\nnext\x00\x1b\u2028 \u202eRTL & =cmd|'/c calc'!A1 \\N \\t"
CLEANED = "Tab here \"quote\" <b> next RTL & =cmd|'/c calc'!A1 \\N \\t"


def qualname(term: str) -> str:
    return darwin_core.DWC + term


@pytest.fixture(scope="session")
def snapshot(demo: Any) -> Snapshot:
    return Snapshot(demo.lake, demo.second.version)


@pytest.fixture(scope="session")
def manifest(snapshot: Snapshot) -> pl.DataFrame:
    return snapshot.manifest.collect()


@pytest.fixture(scope="session")
def archive(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dwca") / "demo.zip"
    export_darwin_core(snapshot, path)
    return path


def test_the_core_has_the_observations_of_the_manifest(archive: Path, manifest: pl.DataFrame) -> None:
    first = manifest.sort("photo_id").unique("observation_uuid", keep="first")
    wanted = {row["observation_uuid"]: row for row in first.iter_rows(named=True)}
    with DwCAReader(str(archive)) as reader:
        assert reader.descriptor.core.type == "http://rs.tdwg.org/dwc/terms/Occurrence"
        for core in reader:
            row, said = wanted.pop(core.id), core.data
            assert said[qualname("occurrenceID")] == row["observation_url"]
            assert said[qualname("scientificName")] == row["label"]
            assert said[qualname("taxonID")] == f"{TAXON_URL}{row['label_id']}"
            assert said[qualname("verbatimIdentification")] == f"{TAXON_URL}{row['taxon_id']}"
            assert said[qualname("taxonRank")] == row["taxon_rank"]
            for rank in ("kingdom", "phylum", "class", "order", "family", "genus"):
                assert said[qualname(rank)] == (row[rank] or "")
            assert said[qualname("recordedBy")] == row["creator"]
            assert said[qualname("eventDate")] == str(row["observed_on"] or "")
            assert said[qualname("identificationVerificationStatus")] == row["quality_grade"]
            for term, column in (("decimalLatitude", "latitude"), ("decimalLongitude", "longitude")):
                assert said[qualname(term)] == ("" if row[column] is None else str(row[column]))
    assert wanted == {}


def test_the_extension_has_the_photographs_of_the_manifest(archive: Path, manifest: pl.DataFrame) -> None:
    wanted = {row["photo_url"]: row for row in manifest.iter_rows(named=True)}
    with DwCAReader(str(archive)) as reader:
        assert [one.type for one in reader.descriptor.extensions] == [
            "http://rs.gbif.org/terms/1.0/Multimedia"
        ]
        for core in reader:
            assert core.extensions, "an observation is there because it has a photograph"
            for photo in core.extensions:
                row = wanted.pop(photo.data[DC + "identifier"])
                assert core.id == row["observation_uuid"]
                assert photo.data[DC + "type"] == "StillImage"
                assert photo.data[DC + "format"] == f"image/{row['format']}"
                assert photo.data[DC + "license"] == row["license_url"]
                assert photo.data[DC + "creator"] == photo.data[DC + "rightsHolder"] == row["creator"]
                assert photo.data[DC + "references"] == row["observation_url"]
                assert photo.data[DC + "title"] == f"Photograph {row['photo_id']}"
        assert reader.orphaned_extension_rows() == {"multimedia.txt": {}}
    assert wanted == {}


def test_places_say_how_coarse_they_are(archive: Path, manifest: pl.DataFrame) -> None:
    rows = {row["observation_uuid"]: row for row in manifest.iter_rows(named=True)}
    seen = 0
    with DwCAReader(str(archive)) as reader:
        for core in reader:
            row, said = rows[core.id], core.data
            located = row["latitude"] is not None
            assert said[qualname("coordinatePrecision")] == ("0.1" if located else "")
            assert bool(said[qualname("dataGeneralizations")]) is located
            if located and row["positional_accuracy"] is not None:
                seen += 1
                radius = int(said[qualname("coordinateUncertaintyInMeters")]) - row["positional_accuracy"]
                # Half the diagonal of a cell of 0.1 degrees.
                assert radius == pytest.approx(METRES_PER_DEGREE * 0.1 / 2**0.5, abs=1)
            else:
                assert said[qualname("coordinateUncertaintyInMeters")] == ""
    assert seen


def test_the_metadata_are_those_of_the_version(archive: Path, snapshot: Snapshot) -> None:
    with DwCAReader(str(archive)) as reader:
        dataset = reader.metadata.find("dataset")
    assert dataset.findtext("title") == snapshot.version.about.title
    assert dataset.findtext("abstract/para") == snapshot.version.about.description.strip()
    assert {one.findtext("url") for one in dataset.findall("licensed")} == {
        LICENCES[code].url for code in snapshot.root.counts.licenses
    }
    assert [one.get("url") for one in dataset.findall("intellectualRights/para/ulink")]
    assert float(dataset.findtext("coverage/geographicCoverage/boundingCoordinates/southBoundingCoordinate"))
    assert dataset.findtext("creator/organizationName") == snapshot.version.about.creators[0].name
    # The order of EML's schema, which is a sequence.
    order = [child.tag for child in dataset]
    wanted = [
        "alternateIdentifier",
        "title",
        "creator",
        "metadataProvider",
        "pubDate",
        "language",
        "abstract",
    ]
    wanted += ["keywordSet", "intellectualRights", "licensed", "coverage", "contact", "methods"]
    assert list(dict.fromkeys(order)) == wanted


def test_a_folder_holds_the_same_files_as_the_zip(archive: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    written = export_darwin_core(snapshot, tmp_path / "out")
    with zipfile.ZipFile(archive) as members:
        assert sorted(members.namelist()) == sorted(path.name for path in (tmp_path / "out").iterdir())
        for file in written:
            data = members.read(file.name)
            assert data == (tmp_path / "out" / file.name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == file.sha256


def test_the_same_version_gives_the_same_bytes(archive: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    (file,) = export_darwin_core(snapshot, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    assert file.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_it_is_structured_like_archives_of_others(archive: Path, shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "dwca_python_reader" / "dwca-star-test-archive.zip") as real:
        theirs = ET.fromstring(real.read("meta.xml"))
    with zipfile.ZipFile(archive) as mine:
        ours = ET.fromstring(mine.read("meta.xml"))
    assert ours.tag == theirs.tag
    kinds = {child.tag for child in theirs}
    assert {child.tag for child in ours} <= kinds
    for kind in kinds & {child.tag for child in ours}:
        one, other = ours.find(kind), theirs.find(kind)
        assert one is not None and other is not None
        assert {child.tag for child in one} == {child.tag for child in other}
        for name in ("encoding", "fieldsTerminatedBy", "linesTerminatedBy", "ignoreHeaderLines", "rowType"):
            assert one.get(name), name


def test_hostile_names_stay_in_their_column(harmed_demo: Any, tmp_path: Path) -> None:
    snapshot = Snapshot(harmed_demo.lake, harmed_demo.second.version)
    for parts in snapshot.root.partitions:
        path = harmed_demo.path / parts.records.key
        pl.read_parquet(path).with_columns(creator=pl.lit(HOSTILE)).write_parquet(path)
    about = snapshot.version.about.model_copy(update={"title": HOSTILE, "description": f"]]> {HOSTILE}"})
    snapshot.version = snapshot.version.model_copy(update={"about": about})
    export_darwin_core(snapshot, tmp_path / "out.zip")
    with DwCAReader(str(tmp_path / "out.zip")) as reader:
        assert reader.metadata.findtext("dataset/title") == CLEANED
        found = list(reader)
        assert len(found) == snapshot.root.counts.observations
        for core in found:
            assert core.data[qualname("recordedBy")] == core.data[qualname("datasetName")].strip() == CLEANED
            assert {photo.data[DC + "creator"] for photo in core.extensions} == {CLEANED}


def test_an_observation_across_two_batches_is_one_row(
    snapshot: Snapshot, tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_by_one(*arguments: Any) -> Any:
        for frame in whole(*arguments):
            yield from frame.iter_slices(1)

    whole = darwin_core._sorted_rows
    monkeypatch.setattr(darwin_core, "_sorted_rows", one_by_one)
    export_darwin_core(snapshot, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_bytes() == archive.read_bytes()


def test_what_is_there_is_not_overwritten(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    for target in (tmp_path / "a.zip", tmp_path / "folder"):
        with pytest.raises(UsageError, match="is there already"):
            export_darwin_core(snapshot, target)
    assert (tmp_path / "a.zip").read_text() == "mine"


def test_an_interrupted_export_leaves_nothing_and_can_be_repeated(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Path
) -> None:
    def interrupt(*arguments: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(darwin_core, "_photographs", interrupt)
        export_darwin_core(snapshot, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    export_darwin_core(snapshot, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_bytes() == archive.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]
