"""Which column comes from which: the lineage that the catalogue of assets shows."""

from collections.abc import Mapping

import dagster as dg

from assets.names import asset_key
from lakehouse.metadata.schema import PHOTOS, SELECTION
from lakehouse.snapshots.schema import MANIFEST

# Column -> the (table, column)s it is made of.
Sources = Mapping[str, list[tuple[str, str]]]

_OF_OBSERVATIONS = (
    "observation_uuid",
    "taxon_id",
    "latitude",
    "longitude",
    "positional_accuracy",
    "quality_grade",
    "observed_on",
)
_OF_THE_SHARD = ("file_name", "width", "height", "format", "sha256", "dhash", "offset", "size")
_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")


def photos(source: str) -> dg.TableColumnLineage:
    """The photo table's columns in the dump's tables."""
    special: Sources = {
        "lft": [("taxa", "lft")],
        "other_observations": [("raw_photos", "observation_uuid")],
        "taxa_disagree": [("raw_photos", "photo_id"), ("raw_observations", "taxon_id")],
        **{name: [("raw_observations", name)] for name in _OF_OBSERVATIONS},
    }
    columns = {name: special.get(name, [("raw_photos", name)]) for name in PHOTOS.names}
    return _lineage(columns, dict.fromkeys(("raw_photos", "raw_observations", "taxa"), source))


def selection(source: str) -> dg.TableColumnLineage:
    """The selection's columns in the photo table, the taxonomy and the observers."""
    special: Sources = {
        "label_id": [("taxa", "taxon_id"), ("photos", "lft")],
        "label": [("taxa", "name"), ("photos", "lft")],
        "split": [("photos", "observation_uuid")],
        "creator": [("raw_observers", "name"), ("raw_observers", "login"), ("photos", "observer_id")],
    }
    columns = {name: special.get(name, [("photos", name)]) for name in SELECTION.names}
    return _lineage(columns, dict.fromkeys(("photos", "taxa", "raw_observers"), source))


def snapshot(source: str, campaign: str) -> dg.TableColumnLineage:
    """The manifest's columns in the selection, the shards' indexes and the taxonomy."""
    special: Sources = {
        **{name: [("shards", name)] for name in _OF_THE_SHARD},
        **{name: [("taxa", name), ("selection", "label_id")] for name in _RANKS},
        "shard": [("shards", "photo_id")],
        "taxon_rank": [("taxa", "rank"), ("selection", "label_id")],
        "license_url": [("selection", "license")],
        "attribution": [("selection", "license"), ("selection", "creator")],
        "photo_url": [("selection", "photo_id"), ("selection", "extension")],
        "observation_url": [("selection", "observation_uuid")],
    }
    columns = {name: special.get(name, [("selection", name)]) for name in MANIFEST}
    return _lineage(columns, {"selection": campaign, "shards": campaign, "taxa": source})


def _lineage(columns: Sources, owners: Mapping[str, str]) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key(owners[table], table), column) for table, column in made_of]
            for name, made_of in columns.items()
        }
    )
