"""Each check passes on a sound snapshot and fails on one that is broken by hand."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.snapshots import refs
from tests.assets.conftest import define
from tests.conftest import DemoLake

SNAPSHOT = dg.AssetKey(["demo", "snapshot"])
ALL = {
    "every_photo_licensed": True,
    "counts_add_up": True,
    "splits_do_not_leak": True,
    "no_copies_across_splits": True,
    "no_copies_across_labels": True,
    "no_near_copies_across_splits": True,
    "croissant_valid": True,
    "rows_accounted_for": True,
    "rows_plausible": True,
    "taxonomy_sane": True,
    "dump_is_whole": True,
    "partitions_are_apart": True,
    "partitions_are_bounded": True,
    "every_photo_judged": True,
    "every_photo_tried": True,
    "failures_under_the_gate": True,
    "splits_are_stable": True,
    "photos_did_not_shrink": True,
    "card_complete": True,
    "every_byte_verifies": True,
    "links_work": True,
}


def verdicts(demo: DemoLake, instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    """Run every check but CKAN's, each on its own."""
    definitions = define(demo)
    keys = [
        key
        for key in definitions.resolve_asset_graph().asset_check_keys
        if key.name != "entry_equals_snapshot"
    ]
    job = dg.define_asset_job(
        "checks",
        selection=dg.AssetSelection.checks(*keys),
        config={"ops": {"demo__snapshot_links_work": {"config": {"photos": 3}}}},
    )
    merged = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = merged.resolve_job_def("checks").execute_in_process(instance=instance, raise_on_error=False)
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def rewrite_labels(demo: DemoLake, column: str, value: str, rows: int = 1) -> None:
    """Change the first rows of a column in the first labels part of demo@v2, as nobody should."""
    lake = demo.lake
    root = refs.read_root(lake, refs.resolve(lake, "demo@v2").snapshot_id)
    path = Path(lake.uri(root.partitions[0].labels.key))
    table = pq.read_table(path)
    values = [value] * rows + table[column].to_pylist()[rows:]
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, pa.string())), path)


def test_all_blocking_checks_pass_on_the_demo(demo: DemoLake, instance: dg.DagsterInstance) -> None:
    found = verdicts(demo, instance)
    assert {name: evaluation.passed for name, evaluation in found.items()} == ALL


def test_a_licence_that_was_not_asked_for_fails_the_licence_check(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    rewrite_labels(harmed_demo, "license", "CC-BY-NC")
    evaluation = verdicts(harmed_demo, instance)["every_photo_licensed"]
    assert not evaluation.passed
    assert "1 photos are under 'CC-BY-NC'" in (evaluation.description or "")


def test_an_observation_in_two_splits_fails_the_leak_check(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    lake = harmed_demo.lake
    root = refs.read_root(lake, refs.resolve(lake, "demo@v2").snapshot_id)
    photos = root.partitions[0].labels.rows
    rewrite_labels(harmed_demo, "split", "test", rows=photos // 2)
    assert not verdicts(harmed_demo, instance)["splits_do_not_leak"].passed


def test_a_croissant_file_that_lost_its_licence_fails_its_check(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    path = harmed_demo.path / "catalog" / "demo" / "v2" / "croissant.json"
    path.write_text(path.read_text().replace('"license"', '"licence"'))
    evaluation = verdicts(harmed_demo, instance)["croissant_valid"]
    assert not evaluation.passed


def test_a_raw_row_that_vanished_fails_the_row_check(
    harmed_demo: DemoLake, instance: dg.DagsterInstance
) -> None:
    release = max(harmed_demo.path.glob("raw/embedded/*/release.json"))
    document = json.loads(release.read_text())
    photos = next(table for table in document["tables"] if table["name"] == "photos")
    photos["rows"] += 1
    release.write_text(json.dumps(document))
    assert not verdicts(harmed_demo, instance)["rows_accounted_for"].passed
