"""The rules a snapshot must keep, each a function that returns a sentence for every way it is broken."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl

from lakehouse.lake import Lake
from lakehouse.metadata.engine import files_sql
from lakehouse.snapshots.diff import count_changes
from lakehouse.snapshots.duplicates import Duplicates
from lakehouse.snapshots.model import OUTCOMES, Root, Version
from lakehouse.snapshots.tables import manifest_sql

_TOLD = 20  # groups that are named one by one


def unlicensed(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Iterator[str]:
    """Photos without an accepted licence, an attribution line or their observation's URL."""
    accepted = [str(code) for code in root.parameters["where"]["licenses"]]
    found = connection.execute(
        f"""
        SELECT license, count(*), min(photo_id) FROM ({manifest_sql(lake, root)})
        WHERE list_contains($accepted, license) IS NOT TRUE GROUP BY license ORDER BY license
        """,
        {"accepted": accepted},
    ).fetchall()
    for license_code, count, example in found:
        yield f"{count} photos are under {license_code!r}, which is not accepted (for example {example})"
    bare = connection.execute(f"""
        SELECT count(*), min(photo_id) FROM ({manifest_sql(lake, root)})
        WHERE coalesce(trim(attribution), '') = '' OR coalesce(observation_url, '') = ''
           OR coalesce(license_url, '') = ''
    """).fetchone()
    if bare and bare[0]:
        yield f"{bare[0]} photos lack attribution, licence URL or observation URL (for example {bare[1]})"
    joined = connection.execute(f"SELECT count(*) FROM ({manifest_sql(lake, root)})").fetchone()
    listed = sum(parts.labels.rows for parts in root.partitions)
    if joined and joined[0] != listed:
        yield f"{listed - joined[0]} of {listed} photos have no known licence, image or label taxon"


def miscounted(version: Version, root: Root) -> Iterator[str]:
    """Counts that do not add up, from every photo considered to every photo in the snapshot."""
    count = version.accounting
    excluded = sum(value for name, value in count.items() if name.startswith("excluded."))
    dropped = sum(value for name, value in count.items() if name.startswith("dropped."))
    tried = sum(count.get(outcome, 0) for outcome in OUTCOMES)
    sums = (
        ("considered = selected + excluded", count["considered"], count["selected"] + excluded),
        ("selected = " + " + ".join(OUTCOMES), count["selected"], tried),
        ("photos = stored - dropped", root.counts.photos, count.get("stored", 0) - dropped),
        ("photos = sum of the splits", root.counts.photos, sum(root.counts.splits.values())),
        ("photos = sum of the licences", root.counts.photos, sum(root.counts.licenses.values())),
        (
            "photos = rows of the parts",
            root.counts.photos,
            sum(parts.labels.rows for parts in root.partitions),
        ),
    )
    for rule, left, right in sums:
        if left != right:
            yield f"{rule} does not hold: {left:,} against {right:,}"


def leaks(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Iterator[str]:
    """Observations or photos that are in two splits, or observers where the campaign groups by them."""
    manifest = manifest_sql(lake, root)
    kept_together = [("observation_uuid", "observations", manifest), ("photo_id", "photos", manifest)]
    if root.parameters.get("splits_group_by") == "observer" and root.partitions:
        labels = files_sql([lake.uri(parts.labels.key) for parts in root.partitions])
        records = files_sql([lake.uri(parts.records.key) for parts in root.partitions])
        by_observer = (
            f"SELECT observer_id, split FROM {labels} JOIN {records} USING (photo_id) WHERE observer_id > 0"
        )
        kept_together.append(("observer_id", "observers", by_observer))
    for column, name, rows in kept_together:
        found = connection.execute(f"""
            SELECT count(*), min(key) FROM (
                SELECT {column} AS key FROM ({rows}) GROUP BY 1 HAVING count(DISTINCT split) > 1)
        """).fetchone()
        if found and found[0]:
            yield f"{found[0]} {name} are in more than one split (for example {found[1]})"
    twice = connection.execute(f"""
        SELECT count(*), min(photo_id) FROM (
            SELECT photo_id FROM ({manifest_sql(lake, root)}) GROUP BY 1 HAVING count(*) > 1)
    """).fetchone()
    if twice and twice[0]:
        yield f"{twice[0]} photos are in the snapshot twice (for example {twice[1]})"


def small_splits(version: Version, root: Root) -> Iterator[str]:
    """Splits in which some labels have no photo: nothing can be learnt or measured of those there."""
    for split, labels in version.label_splits.items():
        if labels < root.counts.labels:
            yield f"{root.counts.labels - labels} of {root.counts.labels} labels have no photo in {split}"


def moved_samples(
    connection: duckdb.DuckDBPyConnection, lake: Lake, before: Root, root: Root
) -> Iterator[str]:
    """Photos that are in another split than in the version before, although the splits are the same."""
    names = ("splits", "splits_group_by")
    if [before.parameters.get(name) for name in names] == [root.parameters.get(name) for name in names]:
        moved = count_changes(connection, lake, before, root)["resplit"]
        if moved:
            yield f"{moved} photos moved to another split"


def copied(found: Duplicates, flag: str, kind: str = "exact") -> Iterator[str]:
    """Groups of copies that are in two splits (`cross_split`) or under two labels (`cross_label`)."""
    across = "splits" if flag == "cross_split" else "labels"
    what = "the same bytes" if kind == "exact" else f"alike (within {found.distance} bits)"
    column = across.removesuffix("s")
    groups = (
        found.flagged(flag, kind)
        .group_by("group", maintain_order=True)
        .agg("photo_id", pl.col(column).unique().sort())
    )
    for photos, names in groups.head(_TOLD).select("photo_id", column).iter_rows():
        listed = ", ".join(str(photo_id) for photo_id in photos[:_TOLD])
        yield f"photos {listed} are {what} in {len(names)} {across}: {', '.join(names)}"
    if groups.height > _TOLD:
        yield f"{groups.height - _TOLD} more groups of photos are {what} in several {across}"


def shared_bytes(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Iterator[str]:
    """Identical image bytes in more than one split."""
    for digest, photos, splits in connection.execute(f"""
        SELECT sha256, string_agg(photo_id, ', ' ORDER BY photo_id),
               string_agg(DISTINCT split, ' and ' ORDER BY split)
        FROM ({manifest_sql(lake, root)}) GROUP BY 1 HAVING count(DISTINCT split) > 1 ORDER BY 1 LIMIT 20
    """).fetchall():
        yield f"photos {photos} are the same bytes ({digest[:12]}) in {splits}"
