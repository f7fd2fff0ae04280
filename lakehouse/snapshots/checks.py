"""The rules a snapshot must keep, each a function that returns a sentence for every way it is broken."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from lakehouse.lake import Lake
from lakehouse.snapshots.model import OUTCOMES, Root, Version
from lakehouse.snapshots.tables import manifest_sql


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
    """Observations or photos that are in two splits."""
    for column, name in (("observation_uuid", "observations"), ("photo_id", "photos")):
        found = connection.execute(f"""
            SELECT count(*), min(key) FROM (
                SELECT {column} AS key FROM ({manifest_sql(lake, root)})
                GROUP BY 1 HAVING count(DISTINCT split) > 1)
        """).fetchone()
        if found and found[0]:
            yield f"{found[0]} {name} are in more than one split (for example {found[1]})"
    twice = connection.execute(f"""
        SELECT count(*), min(photo_id) FROM (
            SELECT photo_id FROM ({manifest_sql(lake, root)}) GROUP BY 1 HAVING count(*) > 1)
    """).fetchone()
    if twice and twice[0]:
        yield f"{twice[0]} photos are in the snapshot twice (for example {twice[1]})"


def moved(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root, before: Root) -> Iterator[str]:
    """Photos that are in another split than in the version before; a different salt or other shares are a
    different dataset, of which nothing is promised."""
    if (root.split_salt, root.parameters["splits"]) != (before.split_salt, before.parameters["splits"]):
        return
    for photo_id, old, new, count in connection.execute(f"""
        SELECT min(photo_id), b.split, a.split, count(*)
        FROM ({manifest_sql(lake, root)}) a JOIN ({manifest_sql(lake, before)}) b USING (photo_id)
        WHERE a.split <> b.split AND a.observation_uuid = b.observation_uuid GROUP BY ALL ORDER BY ALL
    """).fetchall():
        yield f"{count} photos moved from {old} to {new} (for example {photo_id})"


def shared_bytes(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> Iterator[str]:
    """Identical image bytes in more than one split."""
    for digest, photos, splits in connection.execute(f"""
        SELECT sha256, string_agg(photo_id, ', ' ORDER BY photo_id),
               string_agg(DISTINCT split, ' and ' ORDER BY split)
        FROM ({manifest_sql(lake, root)}) GROUP BY 1 HAVING count(DISTINCT split) > 1 ORDER BY 1 LIMIT 20
    """).fetchall():
        yield f"photos {photos} are the same bytes ({digest[:12]}) in {splits}"
