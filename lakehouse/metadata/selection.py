"""Which photos of a partition a campaign takes: each is selected, or left out for exactly one reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from lakehouse.campaign import Campaign, Where
from lakehouse.errors import LakeError, NotFoundError
from lakehouse.lake import Lake
from lakehouse.licences import LICENCES
from lakehouse.metadata.engine import RowGroups, batches, files_sql, quoted, scalars, session
from lakehouse.metadata.ingest import raw_table_key
from lakehouse.metadata.intervals import Interval, cover, union
from lakehouse.metadata.partitions import Plan
from lakehouse.metadata.photos import photo_files
from lakehouse.metadata.schema import EXCLUDED, SELECTION, SELECTION_ENCODING
from lakehouse.metadata.splits import SPLIT_SALT, order_sql, split_of, split_sql
from lakehouse.metadata.taxonomy import load_taxa_report, taxa_key
from lakehouse.progress import task
from lakehouse.tombstones import Tombstones, load_tombstones

__all__ = [
    "LISTED_REASONS",
    "REASONS",
    "SPLIT_SALT",
    "LabelCount",
    "Preview",
    "SelectionReport",
    "excluded_key",
    "label_counts",
    "load_selection_report",
    "preview",
    "select_partition",
    "selection_key",
    "split_of",
]

# In the order in which they are asked; the first that holds is the reason.
REASONS = (
    "taken_back",
    "observations_disagree",
    "unknown_licence",
    "licence",
    "quality",
    "bbox",
    "observed",
    "positional_accuracy",
    "not_at_label_rank",
    "observations_split",
    "per_label_min",
    "per_label_max",
)
# Worth a look one by one: something is wrong with the photo, not with the campaign's taste.
LISTED_REASONS = ("observations_disagree", "observations_split", "unknown_licence")
UNKNOWN_CREATOR = "unknown photographer"
# Ranges of labels in one query's condition.
_RANGES = 64


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SelectionReport(_Record):
    """What became of the photos of a partition: `considered` = `selected` + the sum of `excluded`.

    `digest` is the sha256 of the selection file, so that a partition that did not change is known by it.
    """

    campaign: str
    key: str
    release: str
    plan_digest: str
    digest: str
    considered: int
    selected: int
    excluded: dict[str, int]
    labels: int


class LabelCount(_Record):
    """How many photos a label has."""

    label_id: int
    label: str
    photos: int


class Preview(_Record):
    """What a campaign would select: counts over all partitions; `labels` have most photos first."""

    considered: int
    photos: int
    partitions: int
    labels: tuple[LabelCount, ...]
    licenses: dict[str, int]
    excluded: dict[str, int]


def selection_key(campaign: str, key: str) -> str:
    """The key of a partition's selection."""
    return f"campaigns/{campaign}/selection/{key}.parquet"


def excluded_key(campaign: str, key: str) -> str:
    """The key of the photos of a partition left out for one of `LISTED_REASONS`."""
    return f"campaigns/{campaign}/selection/{key}.excluded.parquet"


def load_selection_report(lake: Lake, campaign: str, key: str) -> SelectionReport | None:
    """What was selected of a partition last; None if nothing ever was."""
    try:
        return SelectionReport.model_validate_json(lake.get(_report_key(campaign, key)))
    except NotFoundError:
        return None


def label_counts(lake: Lake, campaign: str, key: str) -> list[tuple[str, int]]:
    """The labels of a partition's selection with their photos, most first; raises NotFoundError."""
    labels = lake.read_table(selection_key(campaign, key), ["label"])["label"].to_pylist()
    return sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))


def select_partition(
    lake: Lake, campaign: Campaign, plan: Plan, key: str, connection: duckdb.DuckDBPyConnection
) -> SelectionReport:
    """Write the selection of a partition (schema `SELECTION`), what deserves a look, and its report.

    Equal photos and parameters give equal bytes. Raises NotFoundError if the plan has no partition `key`.
    """
    partition = plan.partition(key)
    with _judged(lake, campaign, plan, partition.intervals, connection) as cursor:
        digest = _write_selection(lake, campaign, plan, key, cursor)
        with lake.parquet_writer(excluded_key(campaign.name, key), EXCLUDED) as writer:
            listed = ", ".join(quoted(reason) for reason in LISTED_REASONS)
            query = f"SELECT photo_id, reason FROM judged WHERE reason IN ({listed}) ORDER BY photo_id"
            _write_rows(writer, batches(cursor, query, EXCLUDED))
        considered, selected, labels = scalars(cursor, _COUNTS)
        report = SelectionReport(
            campaign=campaign.name,
            key=key,
            release=plan.release,
            plan_digest=plan.digest,
            digest=digest,
            considered=considered,
            selected=selected,
            excluded=_excluded(cursor),
            labels=labels,
        )
    lake.put(_report_key(campaign.name, key), report.model_dump_json(indent=1).encode())
    return report


def preview(lake: Lake, campaign: Campaign, plan: Plan, connection: duckdb.DuckDBPyConnection) -> Preview:
    """What `select_partition` would give for all partitions of the plan, without writing anything."""
    intervals = union(interval for partition in plan.partitions for interval in partition.intervals)
    if not intervals:
        return Preview(considered=0, photos=0, partitions=0, labels=(), licenses={}, excluded={})
    photos = sum(partition.photos for partition in plan.partitions)
    # Only what the conditions ask for is read, and only counts are kept.
    with (
        task("Counting photos", photos, "photos") as progress,
        _labelled(lake, campaign, plan, intervals, connection) as (cursor, candidates),
    ):
        asked = f"""
            WITH candidates AS ({candidates})
            SELECT photo_id, label_id, license, {_reason_sql(campaign, load_tombstones(lake))} AS failed
            FROM {_straddling_sql(campaign)}"""
        cursor.execute(f"""
            CREATE TEMP TABLE counted AS SELECT label_id, license, failed, count(*) AS photos
            FROM ({asked}) GROUP BY ALL""")
        excluded = Counter[str](
            dict(
                cursor.execute(
                    "SELECT failed, sum(photos)::BIGINT FROM counted WHERE failed IS NOT NULL GROUP BY 1"
                ).fetchall()
            )
        )
        (considered,) = scalars(cursor, "SELECT coalesce(sum(photos), 0)::BIGINT FROM counted")
        least, most = campaign.per_label.min, campaign.per_label.max
        cursor.execute("""
            CREATE TEMP TABLE sizes AS SELECT label_id, sum(photos)::BIGINT AS photos
            FROM counted WHERE failed IS NULL GROUP BY 1""")
        licenses = Counter[str](
            dict(
                cursor.execute(f"""
                    SELECT license, sum(counted.photos)::BIGINT FROM counted JOIN sizes USING (label_id)
                    WHERE failed IS NULL AND sizes.photos BETWEEN {least} AND {most or "sizes.photos"}
                    GROUP BY 1""").fetchall()
            )
        )
        if most is not None:
            # Which photos come first decides the licences of the labels that have too many.
            rows = cursor.execute(f"""
                SELECT license, count(*) FROM (
                    SELECT license, row_number() OVER (PARTITION BY label_id ORDER BY {_order()}) AS nth
                    FROM ({asked}) asked SEMI JOIN (FROM sizes WHERE photos > {most}) USING (label_id)
                    WHERE failed IS NULL
                ) WHERE nth <= {most} GROUP BY 1""").fetchall()
            licenses.update(dict(rows))
        rows = cursor.execute("""
            SELECT label_id, any_value(label), any_value(photos) FROM sizes JOIN labels USING (label_id)
            GROUP BY 1""").fetchall()
        progress.advance(photos)
    kept = []
    for label_id, label, count in rows:
        taken = count if most is None else min(count, most)
        if count < least:
            excluded["per_label_min"] += count
            continue
        excluded["per_label_max"] += count - taken
        kept.append(LabelCount(label_id=label_id, label=label, photos=taken))
    return Preview(
        considered=considered,
        photos=sum(label.photos for label in kept),
        partitions=len(plan.partitions),
        labels=tuple(sorted(kept, key=lambda label: (-label.photos, label.label_id))),
        licenses={code: licenses[code] for code in LICENCES if licenses[code]},
        excluded={reason: excluded[reason] for reason in REASONS if excluded[reason]},
    )


def reasons_of(
    lake: Lake,
    campaign: Campaign,
    plan: Plan,
    photo_ids: pa.Array,
    connection: duckdb.DuckDBPyConnection,
) -> pa.Table:
    """Why these photos, which a release before had, are not selected: `photo_id` and `reason`.

    The reason is `gone` where the source has the photo no more, `elsewhere` where its taxon is none of the
    campaign's now, `per_label_max` where it is only too many, else one of `REASONS`.
    """
    intervals = union(interval for partition in plan.partitions for interval in partition.intervals)
    wanted = pa.table({"photo_id": photo_ids.cast(pa.int64())})
    files = photo_files(lake, plan.source, plan.release, [(-(1 << 62), 1 << 62)])
    with session(lake, connection) as cursor:
        cursor.register("wanted", wanted)
        # One narrow scan finds the few that are asked for; all columns are read of those alone.
        cursor.execute(f"""
            CREATE TEMP TABLE still AS SELECT photos.* FROM {files_sql(files)} photos
            JOIN wanted USING (photo_id)""")
        cursor.unregister("wanted")
        lows, highs = zip(*intervals, strict=True)
        cursor.register(
            "intervals", pa.table({"low": pa.array(lows, pa.int64()), "high": pa.array(highs, pa.int64())})
        )
        found: pa.Table = cursor.sql(f"""
            WITH labels AS (
                SELECT lft, {_label_columns(lake, campaign, plan)}
                FROM {files_sql([lake.uri(taxa_key(plan.source, plan.release))])}
                ASOF JOIN intervals ON lft >= intervals.low
                WHERE lft < intervals.high
            ), candidates AS (
                SELECT still.*, label_id, labels.lft IS NULL AS outside,
                       {_split_sql(campaign)} AS split
                FROM still LEFT JOIN labels USING (lft)
            )
            SELECT photo_id, CASE WHEN outside THEN 'elsewhere'
                ELSE coalesce({_reason_sql(campaign, load_tombstones(lake))}, 'per_label_max') END AS reason
            FROM {_straddling_sql(campaign)}""").to_arrow_table()
        cursor.execute("DROP TABLE still")
        cursor.unregister("intervals")
    missing = pc.invert(pc.is_in(wanted["photo_id"], found["photo_id"]))
    gone = wanted.filter(missing)
    gone = gone.append_column("reason", pa.array(["gone"] * len(gone), pa.string()))
    return pa.concat_tables([found.cast(gone.schema), gone])


def _report_key(campaign: str, key: str) -> str:
    return f"campaigns/{campaign}/selection/{key}.json"


# --- the judgement

_COUNTS = """
    SELECT count(*), count(*) FILTER (reason IS NULL), count(DISTINCT label_id) FILTER (reason IS NULL)
    FROM judged
"""


@contextmanager
def _labelled(
    lake: Lake,
    campaign: Campaign,
    plan: Plan,
    intervals: Sequence[Interval],
    connection: duckdb.DuckDBPyConnection,
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A session with the table `labels`, and a query for the photos of whole partitions with their labels
    and splits."""
    files = photo_files(lake, plan.source, plan.release, intervals)
    if not files:
        raise LakeError(
            f"release {plan.release} of {plan.source} has no photos of campaign {plan.campaign!r}; "
            "make the plan again"
        )
    low, high = intervals[0][0], intervals[-1][1]
    # Ranges, because row groups are skipped by them; the join is what makes the choice exact.
    ranges = " OR ".join(
        f"(photos.lft >= {first} AND photos.lft < {last})" for first, last in cover(intervals, _RANGES)
    )
    with session(lake, connection) as cursor:
        lows, highs = zip(*intervals, strict=True)
        cursor.register(
            "intervals", pa.table({"low": pa.array(lows, pa.int64()), "high": pa.array(highs, pa.int64())})
        )
        cursor.execute(f"""
            CREATE TEMP TABLE labels AS SELECT lft, {_label_columns(lake, campaign, plan)}
            FROM {files_sql([lake.uri(taxa_key(plan.source, plan.release))])}
            ASOF JOIN intervals ON lft >= intervals.low
            WHERE lft >= {low} AND lft < {high} AND lft < intervals.high""")
        yield (
            cursor,
            f"""SELECT photos.*, label_id, label, {_split_sql(campaign)} AS split
                FROM {files_sql(files)} photos JOIN labels USING (lft) WHERE {ranges}""",
        )
        cursor.unregister("intervals")


@contextmanager
def _judged(
    lake: Lake,
    campaign: Campaign,
    plan: Plan,
    intervals: Sequence[Interval],
    connection: duckdb.DuckDBPyConnection,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session with the table `judged`: the photos of whole partitions, and why each is left out."""
    with _labelled(lake, campaign, plan, intervals, connection) as (cursor, candidates):
        cursor.execute(f"""
            CREATE TEMP TABLE judged AS
            WITH candidates AS ({candidates}), asked AS MATERIALIZED (
                SELECT *, {_reason_sql(campaign, load_tombstones(lake))} AS failed
                FROM {_straddling_sql(campaign)}
            ),
            good AS (
                SELECT photo_id, count(*) OVER (PARTITION BY label_id) AS of_label,
                       row_number() OVER (PARTITION BY label_id ORDER BY {_order()}) AS nth
                FROM asked WHERE failed IS NULL
            )
            SELECT asked.* EXCLUDE (failed, straddles), {_bounded_sql(campaign)} AS reason
            FROM asked LEFT JOIN good USING (photo_id)""")
        yield cursor


def _label_columns(lake: Lake, campaign: Campaign, plan: Plan) -> str:
    if campaign.label not in load_taxa_report(lake, plan.source, plan.release).ranks:
        return "NULL::INTEGER AS label_id, NULL::VARCHAR AS label"
    return f'"{campaign.label}_id" AS label_id, "{campaign.label}" AS label'


def _group_sql(campaign: Campaign) -> str:
    """What a photo's split follows from: its observation, or its observer where the campaign groups by them
    and the observer is known."""
    if campaign.splits_group_by == "observation":
        return "observation_uuid"
    return "coalesce('observer:' || observer_id::VARCHAR, observation_uuid::VARCHAR)"


def _split_sql(campaign: Campaign) -> str:
    return split_sql(_group_sql(campaign), campaign.splits)


def _order() -> str:
    """By which the photos of a label are taken, to its bound."""
    return f"{order_sql('photo_id')}, photo_id"


def _straddling_sql(campaign: Campaign) -> str:
    """The candidates with a column `straddles`: the photo's observations are in different splits.

    By observation that follows from the photo alone. By observer it takes the other photos: of its
    observation, and of the further ones that claim it.
    """
    if campaign.splits_group_by == "observation":
        # Said once more for the few shared photos: where nothing else asks for splits, no others are hashed.
        elsewhere = f"lambda other: {split_sql('other', campaign.splits)} <> {_split_sql(campaign)}"
        return f"""(
            SELECT *, CASE WHEN other_observations IS NOT NULL
                           THEN len(list_filter(other_observations, {elsewhere})) > 0 ELSE false END
                      AS straddles
            FROM candidates)"""
    return """(
            WITH claims AS (
                SELECT photo_id, split,
                       unnest(list_prepend(observation_uuid, coalesce(other_observations, []))) AS observation
                FROM candidates
            ), torn AS (
                SELECT observation FROM claims GROUP BY observation HAVING min(split) <> max(split)
            )
            SELECT candidates.*, photo_id IN (SELECT photo_id FROM claims JOIN torn USING (observation))
                   AS straddles
            FROM candidates)"""


def _reason_sql(campaign: Campaign, tombstones: Tombstones) -> str:
    """The first reason to leave a photo out for what it is itself, null if there is none."""
    where = campaign.where
    conditions = {
        "taken_back": tombstones.sql("photo_id"),
        "observations_disagree": "taxa_disagree",
        "unknown_licence": f"license IS NULL OR license NOT IN {_strings(LICENCES)}",
        "licence": f"license NOT IN {_strings(where.licenses)}",
        "quality": f"quality_grade IS NULL OR quality_grade NOT IN {_strings(where.quality)}",
        "bbox": _outside_box_sql(where),
        "observed": _outside_dates_sql(where),
        "positional_accuracy": "false"
        if where.positional_accuracy_max is None
        else f"positional_accuracy IS NULL OR positional_accuracy > {where.positional_accuracy_max}",
        "not_at_label_rank": "label_id IS NULL",
        # One photo whose observations are in two splits would be trained and tested on.
        "observations_split": "straddles",
    }
    cases = "".join(f" WHEN {test} THEN {quoted(reason)}" for reason, test in conditions.items())
    return f"CASE{cases} END"


def _outside_box_sql(where: Where) -> str:
    if where.bbox is None:
        return "false"
    west, south, east, north = where.bbox
    # A box whose west is east of its east lies across the antimeridian.
    across = "OR" if west > east else "AND"
    inside = f"latitude BETWEEN {south} AND {north} AND (longitude >= {west} {across} longitude <= {east})"
    return f"NOT coalesce({inside}, false)"


def _outside_dates_sql(where: Where) -> str:
    bounds = []
    if where.observed and where.observed.from_:
        bounds.append(f"observed_on >= DATE '{where.observed.from_}'")
    if where.observed and where.observed.to:
        bounds.append(f"observed_on <= DATE '{where.observed.to}'")
    return f"NOT coalesce({' AND '.join(bounds)}, false)" if bounds else "false"


def _bounded_sql(campaign: Campaign) -> str:
    """The reason after the bounds per label: one with too few has none, of one with many the first stay."""
    cases = f" WHEN of_label < {campaign.per_label.min} THEN 'per_label_min'"
    if campaign.per_label.max is not None:
        cases += f" WHEN nth > {campaign.per_label.max} THEN 'per_label_max'"
    return f"CASE WHEN failed IS NOT NULL THEN failed{cases} END"


def _strings(values: Iterable[str]) -> str:
    return "(" + ", ".join(quoted(value) for value in values) + ")"


# --- what is written


def _write_selection(
    lake: Lake, campaign: Campaign, plan: Plan, key: str, cursor: duckdb.DuckDBPyConnection
) -> str:
    """Write the selected photos with their creators; returns the sha256 of the file."""
    decimals = campaign.coordinates.decimals
    observers = files_sql([lake.uri(raw_table_key(plan.source, plan.release, "observers"))])
    query = f"""
        WITH people AS (
            SELECT observer_id, min(coalesce(nullif(trim(name), ''), nullif(trim(login), ''))) AS creator
            FROM {observers} WHERE observer_id IN (SELECT observer_id FROM judged WHERE reason IS NULL)
            GROUP BY observer_id
        )
        SELECT judged.* REPLACE (round(latitude, {decimals}) AS latitude,
                                 round(longitude, {decimals}) AS longitude),
               coalesce(creator, {quoted(UNKNOWN_CREATOR)}) AS creator
        FROM judged LEFT JOIN people USING (observer_id) WHERE reason IS NULL ORDER BY photo_id"""
    with lake.parquet_writer(selection_key(campaign.name, key), SELECTION, **SELECTION_ENCODING) as writer:
        _write_rows(writer, batches(cursor, query, SELECTION))
    digest = hashlib.sha256()
    for chunk in lake.chunks(selection_key(campaign.name, key)):
        digest.update(chunk)
    return digest.hexdigest()


def _write_rows(writer: pa.parquet.ParquetWriter, tables: Iterator[pa.Table]) -> None:
    groups = RowGroups(writer)
    for table in tables:
        groups.append(table)
    groups.finish()


def _excluded(cursor: duckdb.DuckDBPyConnection) -> dict[str, int]:
    rows = cursor.execute(
        "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY reason"
    ).fetchall()
    counts = dict(rows)
    return {reason: counts[reason] for reason in REASONS if reason in counts}


def _count_by(cursor: duckdb.DuckDBPyConnection, column: str) -> dict[str, int]:
    return dict(
        cursor.execute(f"SELECT {column}, count(*) FROM judged WHERE reason IS NULL GROUP BY 1").fetchall()
    )
