"""Rows of photos taken out of the raw and the photo tables for good; the reports count what is left."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.errors import NotFoundError
from lakehouse.lake import ROW_GROUP, Lake
from lakehouse.metadata.engine import RowGroups, batches, files_sql, quoted, scalars, session
from lakehouse.metadata.ingest import RawRelease
from lakehouse.metadata.photos import PhotosReport, digests_key
from lakehouse.metadata.schema import (
    CHANGES,
    CHANGES_ENCODING,
    DIGESTS,
    DIGESTS_ENCODING,
    PHOTOS,
    PHOTOS_ENCODING,
    PHOTOS_GROUP,
    PHOTOS_INDEX,
    PHOTOS_REJECTS,
    RAW_TABLES,
    REJECTS,
)


def releases(lake: Lake, folder: str) -> list[str]:
    """The folders of all releases of all sources in `folder`, which is `raw` or `tables`."""
    return [
        f"{folder}/{source}/{release}"
        for source in lake.folders(folder)
        for release in lake.folders(f"{folder}/{source}")
    ]


class RowRemoval:
    """Takes rows out of the tables, and counts: `tables` that were rewritten, `photographers` that are gone.

    Every step looks at what is there, so that one that was interrupted is completed by doing it again.
    """

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self._lake, self._connection = lake, connection
        self.tables = self.photographers = 0

    def raw_rows(self, release: str, photos: Collection[int]) -> list[tuple[Any, ...]]:
        """photo_id, observation_uuid, observer_id of every raw row of the photos."""
        key = f"{release}/photos.parquet"
        if not self._lake.exists(key):
            return []
        return self._connection.execute(
            f"SELECT photo_id, observation_uuid::VARCHAR, observer_id FROM {self._sql(key)} "
            f"WHERE {_is_one_of(photos)}"
        ).fetchall()

    def merged(self, tables: str, report: PhotosReport, rows: list[tuple[Any, ...]]) -> tuple[int, int]:
        """Duplicates and further observations that the report on a photo table counts without the photos."""
        if not rows:
            return report.duplicates, report.shared_extra
        rejected = set(
            self._connection.execute(
                "SELECT photo_id, observation_uuid::VARCHAR "
                f"FROM {self._sql(f'{tables}/photos.rejects.parquet')} "
                f"WHERE {_is_one_of({row[0] for row in rows})}"
            ).fetchall()
        )
        taken = [(row[0], row[1]) for row in rows if (row[0], row[1]) not in rejected]
        pairs, photos = set(taken), {photo_id for photo_id, _ in taken}
        return report.duplicates - (len(taken) - len(pairs)), report.shared_extra - (len(pairs) - len(photos))

    def rewrite_raw(
        self,
        release: str,
        photos: Collection[int],
        observations: Collection[str],
        observers: Collection[int],
    ) -> None:
        """The tables of a release in `raw/`: photos, those of the observations and observers that nothing
        else refers to, then the report."""
        lake = self._lake
        tables = {
            name: f"{release}/{name}.parquet"
            for name in RAW_TABLES
            if lake.exists(f"{release}/{name}.parquet")
        }
        if "photos" not in tables:
            return
        named = self._sql(tables["photos"])
        texts = [str(photo_id) for photo_id in photos]
        self._drop(tables["photos"], _is_one_of(photos))
        if observations and "observations" in tables:
            listed = ", ".join(quoted(text) for text in observations)
            alone = (
                f"observation_uuid IN (SELECT unnest([{listed}]::UUID[])) AND observation_uuid NOT IN "
                f"(SELECT observation_uuid FROM {named} "
                f"WHERE observation_uuid IN (SELECT unnest([{listed}]::UUID[])))"
            )
            left = {
                row[0]
                for row in self._connection.execute(
                    f"SELECT DISTINCT observation_uuid::VARCHAR FROM {named} "
                    f"WHERE observation_uuid IN (SELECT unnest([{listed}]::UUID[]))"
                ).fetchall()
            }
            texts += [text for text in observations if text not in left]
            for name in ("observations", "observations_projects"):
                if name in tables:
                    self._drop(tables[name], alone)
        if observers and "observers" in tables:
            texts += self._drop_observers(tables, observers)
        for name in RAW_TABLES:
            # A line that was set aside is kept as text.
            words = "|".join(re.escape(text) for text in texts)
            if words:
                pattern = quoted(f"(^|[^0-9A-Za-z-])({words})([^0-9A-Za-z-]|$)")
                self._drop(f"{release}/{name}.rejects.parquet", f"regexp_matches(text, {pattern})")
        self._recount_raw(release)

    def _drop_observers(self, tables: dict[str, str], observers: Collection[int]) -> list[str]:
        """Drop the observers of whom nothing is left in a release; the names they went by."""
        listed = ", ".join(str(observer) for observer in observers)
        others = " UNION ALL ".join(
            f"SELECT observer_id FROM {self._sql(tables[name])} WHERE observer_id IN ({listed})"
            for name in ("photos", "observations")
            if name in tables
        )
        alone = f"observer_id IN ({listed}) AND observer_id NOT IN ({others})"
        names = self._connection.execute(
            f"SELECT login, name FROM {self._sql(tables['observers'])} WHERE {alone}"
        ).fetchall()
        self.photographers += self._drop(tables["observers"], alone)
        return [text for row in names for text in row if text and text.strip()]

    def _recount_raw(self, release: str) -> None:
        """Let the release's report count the rows that are there."""
        key = f"{release}/release.json"
        try:
            report = RawRelease.model_validate_json(self._lake.get(key))
        except NotFoundError:
            return  # never completed: the next ingest writes all of it again
        tables = []
        for table in report.tables:
            rows = self._rows(f"{release}/{table.name}.parquet")
            rejected = self._rows(f"{release}/{table.name}.rejects.parquet")
            taken_back = table.lines - 1 - table.blank - rows - rejected
            tables.append(
                table.model_copy(update={"rows": rows, "rejected": rejected, "taken_back": taken_back})
            )
        new = report.model_copy(update={"tables": tuple(tables)})
        if new != report:
            self._lake.put(key, new.model_dump_json(indent=1).encode())

    def rewrite_photos(self, release: str, photos: Collection[int], merged: tuple[int, int] | None) -> None:
        """The photo table of a release in `tables/` with its index, rejects, changes and report, which gets
        the counts `merged`."""
        lake, gone = self._lake, _is_one_of(photos)
        parts = [key for key in lake.list(f"{release}/photos") if "/part-" in key]
        for key in parts:
            self._drop(key, gone)
            self._drop(digests_key(key), gone)
        self._drop(f"{release}/photos.rejects.parquet", gone)
        for key in lake.list(f"{release}/changes"):
            if key.endswith(".parquet") and not key.endswith(".taxa.parquet"):
                self._drop(key, gone)
        try:
            report = PhotosReport.model_validate_json(lake.get(f"{release}/photos.json"))
        except NotFoundError:
            return  # never completed: the next build writes all of it again
        index = lake.read_table(f"{release}/photos/index.parquet")
        counted = [self._rows(f"{release}/photos/{name}") for name in index["file"].to_pylist()]
        if counted != index["rows"].to_pylist():
            new = index.set_column(
                index.schema.get_field_index("rows"), "rows", pa.array(counted, pa.int64())
            )
            with lake.parquet_writer(f"{release}/photos/index.parquet", PHOTOS_INDEX) as writer:
                writer.write_table(new.cast(PHOTOS_INDEX))
        duplicates, shared_extra = merged or (report.duplicates, report.shared_extra)
        left, shared, disagreeing = scalars(
            self._connection,
            f"SELECT count(*), count(other_observations), count(*) FILTER (taxa_disagree) "
            f"FROM {files_sql([lake.uri(key) for key in parts])}",
        )
        rejected = dict(
            self._connection.execute(
                f"SELECT rule, count(*) FROM {self._sql(f'{release}/photos.rejects.parquet')} "
                "GROUP BY 1 ORDER BY 1"
            ).fetchall()
        )
        changed = report.model_copy(
            update={
                "photos": left,
                "duplicates": duplicates,
                "shared_extra": shared_extra,
                "rejected": rejected,
                "shared": shared,
                "disagreeing": disagreeing,
                "raw_rows": left + duplicates + shared_extra + sum(rejected.values()),
            }
        )
        if changed != report:
            lake.put(f"{release}/photos.json", changed.model_dump_json(indent=1).encode())

    def _drop(self, key: str, gone: str) -> int:
        """Rewrite a Parquet file without the rows for which `gone` holds; how many there were."""
        lake = self._lake
        if not lake.exists(key):
            return 0
        with session(lake, self._connection) as cursor:
            source = self._sql(key)
            (count,) = scalars(cursor, f"SELECT count(*) FROM {source} WHERE {gone}")
            if not count:
                return 0
            schema, encoding = _form(key)
            cursor.execute("SET SESSION preserve_insertion_order = true")
            with lake.parquet_writer(key, schema, **encoding) as writer:
                groups = RowGroups(writer, PHOTOS_GROUP if schema is PHOTOS else ROW_GROUP)
                for table in batches(cursor, f"SELECT * FROM {source} WHERE ({gone}) IS NOT TRUE", schema):
                    groups.append(table)
                groups.finish()
        self.tables += 1
        return int(count)

    def _sql(self, key: str) -> str:
        return files_sql([self._lake.uri(key)])

    def _rows(self, key: str) -> int:
        return int(scalars(self._connection, f"SELECT count(*) FROM {self._sql(key)}")[0])


def _form(key: str) -> tuple[pa.Schema, dict[str, Any]]:
    """Schema and encoding of a table of the metadata floor, by its place."""
    name = key.rsplit("/", 1)[-1].removesuffix(".parquet")
    if key.startswith("raw/"):
        if name.endswith(".rejects"):
            return REJECTS, {}
        return RAW_TABLES[name].schema, RAW_TABLES[name].encoding
    if "/changes/" in key:
        return CHANGES, CHANGES_ENCODING
    if name.startswith("digests-"):
        return DIGESTS, DIGESTS_ENCODING
    return (PHOTOS_REJECTS, {}) if name == "photos.rejects" else (PHOTOS, PHOTOS_ENCODING)


def _is_one_of(photos: Collection[int]) -> str:
    return f"photo_id IN ({', '.join(str(int(photo_id)) for photo_id in photos)})"
