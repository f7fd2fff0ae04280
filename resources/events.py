"""Dagster's event log without the pictures and the photo ids that materializations show.

Dagster has no way to change an event, and deleting a campaign's runs would lose its history. So the values in
the log's SQLite files are replaced by others of the same kind: pictures (strips of several photos, which no
search could tell apart) by an empty one, ids in addresses and sentences by 0.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from lakehouse.errors import LakeError

_PICTURE = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
_EMPTY = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
_COLUMNS = (("event_logs", "event"), ("asset_keys", "last_materialization"))
_WAIT = 30.0  # seconds for a Dagster that is writing


def purge_events(home: Path, photo_ids: Collection[int]) -> int:
    """Replace all pictures, and the ids of these photos, in the event log under `home`; how many events.

    Only the log that Dagster keeps in SQLite is reached. Raises LakeError if a file cannot be rewritten.
    """
    if not photo_ids:
        return 0
    ids = "|".join(str(int(photo_id)) for photo_id in photo_ids)
    # Short numbers are also counts; those are replaced in addresses alone.
    named = re.compile(rf"(?<=/photos/)({ids})(?![0-9])|(?<![0-9.])(?=[0-9]{{6}})({ids})(?![0-9.])")
    changed = 0
    for path in sorted((home / "history").rglob("*.db")):
        try:
            with closing(sqlite3.connect(path, timeout=_WAIT, isolation_level=None)) as database:
                found = _rewrite(database, named)
                if found:
                    # Deleted bytes stay in a file's free pages until it is written anew.
                    database.execute("VACUUM")
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                changed += found
        except sqlite3.Error as error:
            raise LakeError(f"cannot rewrite {path}: {error}; stop Dagster and run it again") from error
    return changed


def _rewrite(database: sqlite3.Connection, named: re.Pattern[str]) -> int:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    changed = 0
    database.execute("BEGIN IMMEDIATE")
    for table, column in _COLUMNS:
        if table not in tables:
            continue
        rows = database.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
        for row, text in rows:
            new = named.sub("0", _PICTURE.sub(_EMPTY, text))
            if new != text:
                database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
                changed += 1
    database.execute("COMMIT")
    return changed
