"""Dagster's event log without the pictures and the photo ids that materializations and checks show.

Dagster has no way to change an event, and deleting a campaign's runs would lose its history. So the values in
the log's tables are replaced by others of the same kind: pictures (strips of several photos, which no search
could tell apart) by an empty one, ids in addresses and sentences by 0. The log is in SQLite files, one for
each run and one over all, or in a database server.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import LakeError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PICTURE = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
_EMPTY = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
_COLUMNS = (
    ("event_logs", "event"),
    ("asset_keys", "last_materialization"),
    ("asset_check_executions", "evaluation_event"),
)
_ROWS = 200  # in memory at a time; an event is at most 100 KB
_WAIT = 30.0  # seconds for a Dagster that is writing


def purge_events(home: Path, photo_ids: Collection[int]) -> int:
    """Replace all pictures, and the ids of these photos, in the event log of the Dagster at `home`; how many
    events.

    The log is where the `dagster.yaml` there says. Raises LakeError if it cannot be rewritten.
    """
    if not photo_ids:
        return 0
    ids = "|".join(str(int(photo_id)) for photo_id in photo_ids)
    # Short numbers are also counts; those are replaced in addresses alone.
    named = re.compile(rf"(?<=/photos/)({ids})(?![0-9])|(?<![0-9.])(?=[0-9]{{6}})({ids})(?![0-9.])")
    return _purge_files(home, named) + _purge_server(home, named)


def _purge_files(home: Path, named: re.Pattern[str]) -> int:
    changed = 0
    for path in sorted((home / "history").rglob("*.db")):
        try:
            with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as database:
                found = _rewrite_file(database, named)
                if found:
                    # Deleted bytes stay in a file's free pages until it is written anew.
                    database.execute("VACUUM")
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                changed += found
        except sqlite3.Error as error:
            raise LakeError(f"cannot rewrite {path}: {error}; stop Dagster and run it again") from error
    return changed


def _rewrite_file(database: sqlite3.Connection, named: re.Pattern[str]) -> int:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    changed = 0
    database.execute("BEGIN IMMEDIATE")
    for table, column in _COLUMNS:
        if table not in tables:
            continue
        last = 0
        while rows := database.execute(
            f"SELECT id, {column} FROM {table} WHERE id > ? AND {column} IS NOT NULL ORDER BY id LIMIT ?",
            (last, _ROWS),
        ).fetchall():
            last = rows[-1][0]
            for row, text in _changed(rows, named):
                database.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (text, row))
                changed += 1
    database.execute("COMMIT")
    return changed


def _purge_server(home: Path, named: re.Pattern[str]) -> int:
    """The same in the database server that the instance's `dagster.yaml` names, if it names one."""
    if not (home / "dagster.yaml").exists():
        return 0
    # Takes seconds to import, and is needed when photographs are taken back.
    import dagster as dg
    import sqlalchemy
    from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage

    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        if isinstance(storage, SqliteEventLogStorage) or not isinstance(storage, SqlEventLogStorage):
            return 0
        try:
            with storage.index_connection() as connection:
                return _rewrite_server(connection, named)
        except sqlalchemy.exc.SQLAlchemyError as error:
            # The error's own text has the address of the database, and the statement.
            said = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise LakeError(f"cannot rewrite Dagster's event log: {said}; run it again") from error


def _rewrite_server(connection: Connection, named: re.Pattern[str]) -> int:
    from sqlalchemy import text as sql

    changed = 0
    for table, column in _COLUMNS:
        found, last = 0, 0
        page = sql(
            f"SELECT id, {column} FROM {table} WHERE id > :last AND {column} IS NOT NULL "
            "ORDER BY id LIMIT :most"
        )
        update = sql(f"UPDATE {table} SET {column} = :text WHERE id = :row")
        while rows := [tuple(row) for row in connection.execute(page, {"last": last, "most": _ROWS})]:
            last = rows[-1][0]
            for row, text in _changed(rows, named):
                connection.execute(update, {"text": text, "row": row})
                found += 1
        if found and connection.dialect.name == "postgresql":
            # What a row was before stays in the table's files until they are written anew.
            connection.execute(sql(f"VACUUM (FULL) {table}"))
        changed += found
    return changed


def _changed(rows: Collection[tuple[int, str]], named: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    for row, text in rows:
        new = named.sub("0", _PICTURE.sub(_EMPTY, text))
        if new != text:
            yield row, new
