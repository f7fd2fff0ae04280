"""What the columns of the tables mean, in a sentence each: shown beside their types.

The words for the manifest's columns are those that the dataset's own description uses.
"""

from lakehouse.catalog.croissant_records import MANIFEST_FIELDS
from lakehouse.metadata.schema import TAXA_COLUMNS

# A name that means something else in another table is given there as `<table>.<column>`.
_OTHERS = {
    "observer_id": "iNaturalist's id of the observer.",
    "anomaly_score": "iNaturalist's own score of how unusual the observation is; empty where it has none.",
    "login": "The observer's name on iNaturalist.",
    "name": "Scientific name.",
    "raw_observers.name": "The name the observer shows, if any.",
    "raw_observations.observation_uuid": "Id of the observation.",
    "raw_photos.observation_uuid": "Id of the observation that the photograph documents.",
    "photos.observation_uuid": "Id of the observation that the photograph documents.",
    "selection.observation_uuid": "Id of the observation that the photograph documents.",
    "raw_observations.taxon_id": "iNaturalist's id of the taxon as identified.",
    "raw_taxa.taxon_id": "iNaturalist's id of the taxon.",
    "taxa.taxon_id": "iNaturalist's id of the taxon.",
    **{
        f"{table}.{axis.lower()}": f"{axis} in degrees (WGS 84)."
        for table in ("raw_observations", "photos")
        for axis in ("Latitude", "Longitude")
    },
    "photo_uuid": "Id of the photograph's row in the dump.",
    "extension": "Ending of the file's name at the source.",
    "position": "Place of the photograph among those of its observation, from 0.",
    "ancestry": "Ids of the taxa above it, from the root down, with slashes between.",
    "rank_level": "Rank as a number: 10 is a species, 20 a genus, 70 a kingdom.",
    "rank": "Rank in the tree of life.",
    "active": "Whether the taxon is in use; others were merged, split or never accepted.",
    "parent_id": "iNaturalist's id of the taxon above it.",
    "depth": "Steps down from the root of the tree.",
    "lft": "Place of the taxon in the tree: all that is below it follows, up to `rgt`.",
    "rgt": "Where what is below the taxon ends.",
    "other_observations": "Further observations that the same photograph documents.",
    "taxa_disagree": "Whether the photograph's observations name different taxa.",
    "mode": "How the pixels are stored: RGB, grey, with a palette.",
    "orientation": "How the file says it is to be turned (EXIF, 1 to 8).",
    "gps": "Whether the file itself has coordinates in it.",
    "animated": "Whether the file has more than one picture.",
}
_DESCRIPTIONS = {**{column.name: column.description for column in MANIFEST_FIELDS}, **_OTHERS}


def description(table: str, column: str) -> str | None:
    """What a column of a table means; None if nothing is said of it."""
    if table == "taxa" and column not in TAXA_COLUMNS:  # which ranks it has is the source's affair
        rank = column.removesuffix("_id")
        return f"The taxon's {rank}: its {'id' if column.endswith('_id') else 'name'}."
    return _DESCRIPTIONS.get(f"{table}.{column}") or _DESCRIPTIONS.get(column)
