"""What search engines read of a version."""

from __future__ import annotations

import json

import pytest
from rdflib import Graph, Namespace

from lakehouse.campaign import Creator
from lakehouse.catalog.publish import to_json
from lakehouse.catalog.schema_org import LONGEST, SHORTEST, dataset_jsonld
from lakehouse.licences import LICENCES
from lakehouse.snapshots.model import About
from tests.catalog.conftest import Published

SCHEMA = Namespace("https://schema.org/")


def test_it_is_rdf_with_all_that_search_engines_ask_for(export: Published) -> None:
    page = "https://example.org/pollinators/v2/"
    document = dataset_jsonld(
        export.version,
        export.root,
        export.statistics,
        export.files,
        page=page,
        doi="10.5072/x",
        image="a.jpg",
    )
    graph = Graph().parse(data=to_json(document), format="json-ld")
    (subject,) = graph.subjects(predicate=SCHEMA.datePublished)
    assert str(subject) == page
    for name in ("name", "description", "creator", "license", "identifier", "version", "keywords", "url"):
        assert graph.value(subject, SCHEMA[name], any=True) is not None, name
    assert {str(value) for value in graph.objects(subject, SCHEMA.license)} == {
        LICENCES[code].url for code in export.statistics.licenses
    }
    assert "https://doi.org/10.5072/x" in {str(value) for value in graph.objects(subject, SCHEMA.identifier)}


def test_it_covers_the_places_and_times_of_the_data(export: Published) -> None:
    document = dataset_jsonld(export.version, export.root, export.statistics, export.files)
    box = export.statistics.box
    assert box is not None
    south, west, north, east = map(float, document["spatialCoverage"]["geo"]["box"].split())
    assert (south, west, north, east) == (box.south, box.west, box.north, box.east)
    assert (
        document["temporalCoverage"] == f"{export.statistics.observed_from}/{export.statistics.observed_to}"
    )


def test_it_leads_to_the_tables_and_not_to_every_archive(export: Published) -> None:
    document = dataset_jsonld(export.version, export.root, export.statistics, export.files)
    listed = {one["contentUrl"]: one["sha256"] for one in document["distribution"]}
    assert set(listed) == {
        file.url for file in export.files if file.role not in ("shard", "figure", "earlier")
    }
    assert {"manifest.parquet", "attribution.parquet"} <= set(listed)
    assert listed["manifest.parquet"] == next(f.sha256 for f in export.files if f.role == "manifest")


@pytest.mark.parametrize("said", ["Bees", "x", "word " * 3_000, "\x00\u202e</script>", "é" * 6_000])
def test_a_description_has_the_length_that_is_asked_for(export: Published, said: str) -> None:
    about = About(title=said, description=said, creators=(Creator(name=said, url="javascript:x"),))
    version = export.version.model_copy(update={"about": about})
    document = dataset_jsonld(version, export.root, export.statistics, export.files)
    assert SHORTEST <= len(document["description"]) <= LONGEST
    assert f"{export.statistics.photos:,} photographs" in document["description"]
    assert "url" not in document["creator"][0]
    json.loads(to_json(document))
