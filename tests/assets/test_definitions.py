"""What the code location declares."""

from __future__ import annotations

import dagster as dg

ASSETS = {
    "demo/plan",
    "demo/selection",
    "demo/shards",
    "demo/snapshot",
    "demo/croissant",
    "demo/dataset_card",
    "demo/ckan_entry",
    "embedded/dump",
    "embedded/raw_observations",
    "embedded/raw_observers",
    "embedded/raw_photos",
    "embedded/raw_taxa",
    "embedded/taxa",
    "embedded/photos",
}


def test_a_campaign_and_its_source_have_the_assets_of_the_design(definitions: dg.Definitions) -> None:
    assert {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()} == ASSETS


def test_every_asset_says_what_it_is_whose_it_is_and_what_it_is_made_of(definitions: dg.Definitions) -> None:
    bare = [
        spec.key.to_user_string()
        for spec in definitions.resolve_all_asset_specs()
        if not (spec.description and spec.owners and spec.group_name and spec.kinds)
    ]
    assert bare == []


def test_every_column_that_is_shown_has_a_type_and_a_meaning_that_people_understand(
    definitions: dg.Definitions,
) -> None:
    schemas = {
        spec.key.to_user_string(): spec.metadata["dagster/column_schema"]
        for spec in definitions.resolve_all_asset_specs()
        if "dagster/column_schema" in spec.metadata
    }
    assert {"demo/snapshot", "demo/shards", "embedded/photos", "embedded/raw_taxa"} <= schemas.keys()
    for asset, schema in schemas.items():
        columns = getattr(schema, "schema", schema).columns
        assert [(asset, column.name) for column in columns if not column.description] == []
        assert [column.type for column in columns if "<" in column.type] == []


def test_lineage_runs_from_the_dump_to_the_catalogue(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    ancestors = graph.get_ancestor_asset_keys(dg.AssetKey(["demo", "ckan_entry"]))
    assert {key.to_user_string() for key in ancestors} >= ASSETS - {"demo/ckan_entry"}


def test_selection_and_shards_are_partitioned_by_taxon(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    names = {graph.get(dg.AssetKey(["demo", asset])).partitions_def.name for asset in ("selection", "shards")}
    assert names == {"demo_taxa"}


def test_the_main_rules_are_asset_checks_that_block(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    blocking = {
        f"{key.asset_key.to_user_string()}:{key.name}"
        for key in graph.asset_check_keys
        if graph.get_check_spec(key).blocking
    }
    assert blocking >= {
        "demo/snapshot:every_photo_licensed",
        "demo/snapshot:counts_add_up",
        "demo/snapshot:splits_do_not_leak",
        "demo/croissant:croissant_valid",
        "embedded/photos:rows_accounted_for",
    }


def test_there_is_a_monthly_schedule_and_a_sensor_for_new_dumps(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "demo_monthly",
        "demo_nightly_verify",
        "demo_weekly_links",
    }
    assert "demo_new_dump" in {sensor.name for sensor in repository.sensor_defs}
