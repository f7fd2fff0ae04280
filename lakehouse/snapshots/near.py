"""Pictures that look alike: all pairs of difference hashes that differ in few bits, without comparing all.

Multi-index hashing: cut 64 bits into `distance + 2` bands; two hashes that differ in at most `distance` bits
agree in two whole bands or more, so it is enough to compare those that do (Norouzi, Punjani, Fleet 2012). The
joins are DuckDB's, which spills: memory is bounded whatever the number of pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import duckdb

DISTANCE = 2
# A picture of one flat colour has a hash of (nearly) equal bits, which says nothing about what it shows.
LEAST_BITS, MOST_BITS = 4, 60
_BITS = 64


def near_values(cursor: duckdb.DuckDBPyConnection, hashes: str, distance: int) -> None:
    """A temporary table `near_values` (one, other, distance) of the distinct hashes that lie near each other.

    Parameters
    ----------
    hashes
        SQL of a query with a column `dhash` (UBIGINT, may be null).
    distance
        How many bits may differ, 0 to 8. Each pair is there once, `one` below `other`.
    """
    cursor.execute(f"""
        CREATE OR REPLACE TEMP TABLE distinct_hashes AS
        SELECT DISTINCT dhash AS h FROM ({hashes})
        WHERE bit_count(dhash) BETWEEN {LEAST_BITS} AND {MOST_BITS}""")
    cursor.execute("CREATE OR REPLACE TEMP TABLE near_found (one UBIGINT, other UBIGINT, distance TINYINT)")
    if distance:
        for key in _keys(distance + 2):
            cursor.execute(f"""
                INSERT INTO near_found
                SELECT a.h, b.h, bit_count(xor(a.h, b.h)) AS distance
                FROM (SELECT h, {key} AS k FROM distinct_hashes) a
                JOIN (SELECT h, {key} AS k FROM distinct_hashes) b ON a.k = b.k AND a.h < b.h
                WHERE bit_count(xor(a.h, b.h)) <= {distance}""")
    cursor.execute("CREATE OR REPLACE TEMP TABLE near_values AS SELECT DISTINCT * FROM near_found")
    cursor.execute("DROP TABLE near_found")
    cursor.execute("DROP TABLE distinct_hashes")


def _keys(bands: int) -> Iterator[str]:
    """SQL of the bits of each two bands, over the hash `h`."""
    edges = [number * _BITS // bands for number in range(bands + 1)]
    masks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    for one, other in combinations(masks, 2):
        yield f"h & {one | other}::UBIGINT"
