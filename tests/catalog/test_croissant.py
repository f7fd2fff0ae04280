"""The Croissant description: complete, valid without a warning, and it loads exactly the manifest's rows."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse.campaign import Creator
from lakehouse.catalog.croissant import bibtex, describe, to_json, validate
from lakehouse.catalog.croissant_check import RECOMMENDED, REQUIRED
from lakehouse.errors import CatalogError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mlcroissant unpacks archives into a cache of its own; each test gets a fresh one."""
    import mlcroissant._src.operation_graph.operations.extract as extract
    from etils import epath

    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "croissant"))


@pytest.fixture(params=["export", "lake"])
def published(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def written(published: Any, name: str = "croissant.json", **changes: Any) -> Path:
    description = describe(published.version, published.root, published.statistics, published.files)
    path: Path = published.folder / name
    path.write_bytes(to_json(description | changes))
    return path


def loaded(path: Path, record_set: str) -> list[dict[str, Any]]:
    """The records with the record set's name taken off and text decoded."""
    import mlcroissant

    def plain(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    return [
        {name.partition("/")[2]: plain(value) for name, value in record.items()}
        for record in mlcroissant.Dataset(path).records(record_set)
    ]


def test_a_description_has_no_problem(published) -> None:
    assert validate(written(published)) == []


def test_the_reference_validator_says_nothing_but_done(published) -> None:
    command = [
        str(Path(sys.executable).with_name("mlcroissant")),
        "validate",
        "--jsonld",
        str(written(published)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 0
    assert len(said) == 1, said
    assert said[0].endswith("Done.")


def test_samples_are_exactly_the_rows_of_the_manifest(published) -> None:
    samples = loaded(written(published), "samples")
    rows = published.manifest.collect()
    columns = ("photo_id", "file_name", "label", "label_id", "split", "license", "attribution", "sha256")
    assert [tuple(sample[name] for name in columns) for sample in samples] == rows.select(columns).rows()
    for sample in samples:
        content = sample["image"].fp.getvalue()
        assert hashlib.sha256(content).hexdigest() == sample["sha256"]
        assert sample["image"].size == (sample["width"], sample["height"])


def test_the_manifest_loads_with_its_gaps(published) -> None:
    records = loaded(written(published), "manifest")
    rows = published.manifest.collect()
    for name in ("photo_id", "latitude", "positional_accuracy", "creator"):
        assert [record[name] for record in records] == rows[name].to_list()
    dates = [record["observed_on"] and record["observed_on"].date() for record in records]
    assert dates == rows["observed_on"].to_list()


def test_splits_and_taxa_are_enumerated(export) -> None:
    path = written(export)
    splits = {record["name"]: (record["url"], record["photos"]) for record in loaded(path, "splits")}
    assert splits["val"] == ("cr:ValidationSplit", export.statistics.splits["val"])
    taxa = loaded(path, "taxa")
    assert [tuple(taxon.values()) for taxon in taxa] == pl.read_parquet(export.folder / "taxa.parquet").rows()
    assert {taxon["label_id"] for taxon in taxa} == {label.label_id for label in export.statistics.labels}


def test_two_datasets_do_not_share_pixels(export, make_export, tmp_path: Path) -> None:
    other = make_export(tmp_path / "other", photos=10, seed=500)
    first, second = loaded(written(export), "samples"), loaded(written(other), "samples")
    digests = [hashlib.sha256(sample["image"].fp.getvalue()).hexdigest() for sample in second]
    assert digests == [sample["sha256"] for sample in second]
    assert not set(digests) & {sample["sha256"] for sample in first}


def test_a_dataset_of_one_shard_loads_too(make_export, tmp_path: Path) -> None:
    one = make_export(tmp_path / "one", photos=3)
    assert len([file for file in one.files if file.role == "shard"]) == 1
    samples = loaded(written(one), "samples")
    assert [sample["photo_id"] for sample in samples] == [1000, 1001, 1002]


def test_every_file_is_listed_with_digest_and_size(export) -> None:
    described = describe(export.version, export.root, export.statistics, export.files)
    listed = {item["@id"]: item for item in described["distribution"] if item["@type"] == "cr:FileObject"}
    assert set(listed) == {file.name for file in export.files}
    for file in export.files:
        assert (listed[file.name]["sha256"], listed[file.name]["contentSize"]) == (
            file.sha256,
            f"{file.size} B",
        )


def test_the_dataset_says_what_it_is(export) -> None:
    described = describe(
        export.version,
        export.root,
        export.statistics,
        export.files,
        page="https://x.org/p",
        same_as=["https://doi"],
    )
    assert all(described[name] not in (None, "", []) for name in (*REQUIRED, *RECOMMENDED))
    assert described["version"] == "2.0.0"
    assert described["license"] == [
        "https://creativecommons.org/publicdomain/zero/1.0/",
        "https://creativecommons.org/licenses/by/4.0/",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ]
    assert described["creator"][0]["@type"] == "sc:Person"
    assert described["creator"][1]["@type"] == "sc:Organization"
    assert described["prov:wasDerivedFrom"][0]["version"] == export.root.inputs.release
    urn = f"urn:sha256:{export.root.content_id}"
    assert (described["url"], described["sameAs"]) == ("https://x.org/p", ["https://doi", urn])
    assert export.root.content_id in described["citeAs"]


@pytest.mark.parametrize("source,synthetic", [("embedded", True), ("inaturalist", False)])
def test_drawn_photographs_are_called_synthetic(export, source: str, synthetic: bool) -> None:
    root = export.root.model_copy(update={"inputs": export.root.inputs.model_copy(update={"source": source})})
    described = describe(export.version, root, export.statistics, export.files)
    assert described["rai:hasSyntheticData"] is synthetic


def test_the_same_version_gives_the_same_bytes(export) -> None:
    again = describe(export.version, export.root, export.statistics, tuple(reversed(export.files)))
    first = describe(export.version, export.root, export.statistics, export.files)
    assert to_json(first) == to_json(again)


def test_statistics_of_another_snapshot_are_refused(export, lake) -> None:
    with pytest.raises(CatalogError, match="describe a snapshot by its own manifest"):
        describe(export.version, export.root, lake.statistics, export.files)


def test_a_dataset_without_shards_is_refused(export) -> None:
    files = [file for file in export.files if file.role != "shard"]
    with pytest.raises(CatalogError, match="at least one shard"):
        describe(export.version, export.root, export.statistics, files)


def test_hostile_text_stays_text(export) -> None:
    about = export.version.about.model_copy(
        update={
            "title": 'Bees "quoted" {curly} \\ 100% & <b>\n---',
            "creators": (Creator(name="O'Neil & Söhne_{x}"),),
        }
    )
    version = export.version.model_copy(update={"about": about})
    path = export.folder / "hostile.json"
    path.write_bytes(to_json(describe(version, export.root, export.statistics, export.files)))
    assert validate(path) == []
    assert r"O'Neil \& Söhne\_\{x\}" in bibtex(version, export.root)


@pytest.mark.parametrize(
    "changes,problem",
    [
        ({"description": ""}, "the required property description is missing"),
        ({"keywords": []}, "the recommended property keywords is missing"),
        ({"version": "v2"}, "the version 'v2' is not of the form 1.0.0"),
        ({"license": ["https://example.org/mine"]}, "the licence 'https://example.org/mine' is not one"),
        ({"conformsTo": "http://mlcommons.org/croissant/1.0"}, "conformsTo does not name"),
        ({"recordSet": []}, "the record set samples is missing"),
        ({"distribution": []}, "the distribution lists no file"),
        ({"@type": "sc:Thing"}, "mlcroissant: "),
    ],
)
def test_what_is_missing_or_wrong_is_named(export, changes: dict[str, Any], problem: str) -> None:
    assert any(found.startswith(problem) for found in validate(written(export, "wrong.json", **changes)))


def test_a_file_that_is_not_there_or_not_whole_is_named(export, tmp_path: Path) -> None:
    description = json.loads(written(export).read_text())
    copy = tmp_path / "croissant.json"
    for file in export.files:
        if file.role != "attribution":
            (tmp_path / file.name).parent.mkdir(exist_ok=True)
            (tmp_path / file.name).write_bytes(b"short" if file.role == "manifest" else bytes(file.size))
    copy.write_text(json.dumps(description))
    problems = " ".join(validate(copy))
    assert "attribution.parquet: there is no file" in problems
    assert "manifest.parquet has 5 bytes" in problems


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "croissant.json"
    assert validate(path) == [f"{path} does not exist"]
    path.write_text("{")
    assert "is not JSON" in validate(path)[0]
