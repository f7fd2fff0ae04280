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
import rdflib
from rdflib import DCTERMS, PROV, RDF

from lakehouse.campaign import Creator
from lakehouse.catalog.croissant import bibtex, describe, to_json, validate
from lakehouse.catalog.croissant_check import CONFORMS_TO, RECOMMENDED, REQUIRED, gate
from lakehouse.catalog.files import DatasetFile, shard_name
from lakehouse.catalog.responsible import PROPERTIES
from lakehouse.catalog.statistics import summarize
from lakehouse.errors import CatalogError
from lakehouse.licences import LICENCES
from tests.catalog.conftest import jpeg, records, row, table


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


@pytest.mark.parametrize("name", [*REQUIRED, *RECOMMENDED])
def test_nothing_required_or_recommended_may_be_left_out(export, name: str) -> None:
    kind = "required" if name in REQUIRED else "recommended"
    left = describe(export.version, export.root, export.statistics, export.files)
    del left[name]
    assert f"the {kind} property {name} is missing" in gate(left, export.folder)


@pytest.mark.parametrize(
    "place,name",
    [
        (("distribution", 0), "sha256"),
        (("distribution", 0), "contentUrl"),
        (("distribution", 0), "encodingFormat"),
        (("distribution", -1), "containedIn"),
        (("distribution", -1), "includes"),
        (("recordSet", 1), "key"),
        (("recordSet", 1), "description"),
        (("recordSet", 2, "field", 4), "dataType"),
        (("recordSet", 2, "field", 4), "description"),
    ],
)
def test_each_part_says_what_it_must(export, place: tuple[Any, ...], name: str) -> None:
    part = document = parsed(export)
    for step in place:
        part = part[step]
    del part[name]
    problems = gate(document, export.folder)
    assert any(problem.startswith(f"{part['@id']}: {name} is missing") for problem in problems)


def test_a_part_that_names_nothing_or_is_there_twice_is_named(export) -> None:
    document = parsed(export)
    label = next(field for field in document["recordSet"][2]["field"] if field["name"] == "label")
    label["source"]["fileObject"]["@id"] = "nowhere.parquet"
    document["distribution"].append(document["distribution"][0])
    problems = gate(document, export.folder)
    assert "manifest/label: there is no nowhere.parquet, which it names" in problems
    assert f"{document['distribution'][0]['@id']}: two parts have this @id" in problems


def parsed(export: Any) -> Any:
    described = describe(export.version, export.root, export.statistics, export.files)
    return json.loads(to_json(described))


def test_what_is_no_croissant_at_all_is_told_and_not_raised(tmp_path: Path) -> None:
    path = tmp_path / "croissant.json"
    for hostile in (
        "[]",
        "{}",
        '{"distribution": 3, "recordSet": [1, {"field": "x"}]}',
        '{"license": {"a": 1}}',
    ):
        path.write_text(hostile)
        assert validate(path)


# --- as it always was, and as RDF


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The description of a dataset in which nothing depends on an image codec or on the installed release."""
    rows = []
    for number in range(20):
        made = row(number, jpeg(number), 0) | {"sha256": f"{number:064x}", "size": 1000 + number}
        rows.append(made | {"width": 40, "height": 30, "shard": "a" * 64, "offset": 512 * number})
    manifest = table(rows)
    version, root = records(manifest, "pollinators", [(Path("a.tar"), 20)])
    root = root.model_copy(update={"content_id": "c" * 64})
    version = version.model_copy(update={"snapshot_id": "5" * 64, "parent": "4" * 64})
    files = [
        DatasetFile(
            shard_name("train", 0, "a" * 64), "data/a.tar", "a" * 64, 20480, "application/x-tar", "shard"
        ),
        DatasetFile("manifest.parquet", "manifest.parquet", "b" * 64, 9, "application/x-parquet", "manifest"),
        DatasetFile("taxa.parquet", "taxa.parquet", "d" * 64, 8, "application/x-parquet", "taxa"),
        DatasetFile("ATTRIBUTION.txt.gz", "ATTRIBUTION.txt.gz", "e" * 64, 7, "application/gzip", "credits"),
    ]
    monkeypatch.setattr("lakehouse.catalog.croissant.installed", lambda name: "0.0.0")
    return describe(version, root, summarize(manifest.lazy()), files, page="https://example.org/pollinators")


def test_the_description_is_as_it_was_when_somebody_last_looked(fixed: dict[str, Any]) -> None:
    """To accept a change, delete the file and run the test: it writes the new one for you to read."""
    golden = Path(__file__).parent / "golden" / "croissant.json"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_bytes(to_json(fixed))
        pytest.fail(f"{golden} was written; read it, and run the test again")
    assert to_json(fixed).decode() == golden.read_text(encoding="utf-8")


SC = rdflib.Namespace("https://schema.org/")
CR = rdflib.Namespace("http://mlcommons.org/croissant/")
RAI = rdflib.Namespace("http://mlcommons.org/croissant/RAI/")
DWC = "http://rs.tdwg.org/dwc/terms/"
BASE = "https://example.org/pollinators/"


@pytest.fixture
def graph(fixed: dict[str, Any]) -> rdflib.Graph:
    return rdflib.Graph().parse(data=to_json(fixed), format="json-ld", publicID=BASE)


@pytest.fixture
def dataset(graph: rdflib.Graph) -> Any:
    return graph.value(predicate=SC.alternateName, object=rdflib.Literal("Pollinators & friends", lang="en"))


def said(graph: rdflib.Graph, subject: Any, predicate: Any) -> set[str]:
    return {str(value) for value in graph.objects(subject, predicate)}


def test_as_rdf_the_dataset_says_what_it_is(graph: rdflib.Graph, dataset: Any) -> None:
    assert (dataset, RDF.type, SC.Dataset) in graph
    assert said(graph, dataset, DCTERMS.conformsTo) == set(CONFORMS_TO)
    urls = {LICENCES[code].url for code in ("CC0", "CC-BY", "CC-BY-NC")}
    assert said(graph, dataset, SC.license) == urls == said(graph, dataset, SC.sdLicense)
    assert said(graph, dataset, SC.sameAs) == {"urn:sha256:" + "c" * 64}
    (place,) = graph.objects(dataset, SC.spatialCoverage / SC.geo / SC.box)
    south, west, north, east = map(float, str(place).split())
    assert -90 <= south <= north <= 90
    assert -180 <= west <= east <= 180
    assert said(graph, dataset, SC.temporalCoverage) == {"2019-02-07/2020-12-04"}


def test_as_rdf_every_file_has_its_digest(graph: rdflib.Graph, dataset: Any) -> None:
    files = {
        file for file in graph.objects(dataset, SC.distribution) if (file, RDF.type, CR.FileObject) in graph
    }
    assert {str(graph.value(file, SC.sha256)) for file in files} == {letter * 64 for letter in "abde"}


def test_as_rdf_it_derives_from_the_dump_and_names_the_software(graph: rdflib.Graph, dataset: Any) -> None:
    sources = list(graph.objects(dataset, PROV.wasDerivedFrom))
    dump = next(source for source in sources if (source, PROV.hadMember, None) in graph)
    assert said(graph, dump, SC.datePublished) == {"2026-01-01"}
    digests = {str(graph.value(one, SC.sha256)) for one in graph.objects(dump, PROV.hadMember)}
    assert digests == {"1" * 64, "2" * 64}
    before = next(source for source in sources if source != dump)
    assert said(graph, before, SC.identifier) == {"snapshot:" + "4" * 64}
    (agent,) = graph.objects(dataset, PROV.wasGeneratedBy / PROV.wasAssociatedWith)
    assert (agent, RDF.type, PROV.SoftwareAgent) in graph
    assert said(graph, agent, SC.softwareVersion) == {"0.0.0"}


@pytest.mark.parametrize(
    "column,term", [("label_id", "taxonID"), ("label", "scientificName"), ("genus", "genus")]
)
def test_as_rdf_the_taxa_are_darwin_core(graph: rdflib.Graph, column: str, term: str) -> None:
    field = rdflib.URIRef(f"{BASE}taxa/{column}")
    assert (rdflib.URIRef(BASE + "taxa"), CR.field, field) in graph
    assert said(graph, field, CR.equivalentProperty) == {DWC + term}


def test_as_rdf_labels_and_splits_are_known_as_such(graph: rdflib.Graph) -> None:
    assert (rdflib.URIRef(BASE + "samples/label"), CR.dataType, CR.Label) in graph
    assert (rdflib.URIRef(BASE + "splits"), CR.dataType, CR.Split) in graph
    assert (rdflib.URIRef(BASE + "samples/image"), CR.dataType, SC.ImageObject) in graph


def test_as_rdf_all_of_responsible_ai_is_said(graph: rdflib.Graph, dataset: Any) -> None:
    assert {name for name in PROPERTIES if not said(graph, dataset, RAI[name])} == set()
    assert graph.value(dataset, RAI.hasSyntheticData).toPython() is True
