"""Photos taken back for good: out of every snapshot, shard and table of the lake, and never let in again.

A removal is a work order in the lake, `removals/open/<name>.json`, which holds what must go until all of it
is gone. Tombstones come first, so that nothing comes back meanwhile; then what takes the place of a file is
written before the file is deleted; the order is deleted last. Every step looks at what is there, not at what
was done before, so that a removal that was interrupted, wherever, is completed by the next call.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import duckdb
import pyarrow as pa

from lakehouse.errors import LakeError, NotFoundError, UsageError
from lakehouse.images.lease import lease
from lakehouse.images.ledger import Ledger
from lakehouse.images.repack import repack
from lakehouse.images.shard import index_key
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
from lakehouse.progress import task
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import ShardRef
from lakehouse.snapshots.parts import PARTS, shard_ref
from lakehouse.snapshots.withdraw import Taken, succeed
from lakehouse.tombstones import Reason, bury, load_tombstones

LEASE = "removals/lease"
_OPEN = "removals/open"
_PHOTO = re.compile(r"(?:.*/photos/)?(\d{1,18})(?:[/?#].*)?")
_REASONS: tuple[Reason, ...] = get_args(Reason)
_TOLD = 20  # bad lines that an error names one by one

Progress = Callable[[str], None]
Forget = Callable[[Collection[int]], int]


@dataclass(frozen=True, slots=True)
class RemovalRequest:
    """One photo to take back: its id, or an address with `/photos/<id>` in it, and the reason.

    Raises UsageError for what is neither.
    """

    photo: str | int
    reason: Reason = "legal"

    def __post_init__(self) -> None:
        found = _PHOTO.fullmatch(str(self.photo).strip())
        if not found:
            raise UsageError(f"{self.photo!r} is not a photo id; give its number or its address")
        if self.reason not in _REASONS:
            raise UsageError(f"the reason {self.reason!r} is none of {', '.join(_REASONS)}")
        object.__setattr__(self, "photo", int(found[1]))

    @property
    def photo_id(self) -> int:
        """The photo's id."""
        return int(self.photo)


@dataclass(frozen=True, slots=True)
class RemovalReport:
    """What a removal did.

    `photos` counts what was taken back now by reason, `copies` those among them that nobody asked for but
    that are the same bytes; `already` the requests that were carried out before, `unknown` those of photos
    that the lake does not have (they are kept out from now on). `versions` maps each affected version to the
    ids of its snapshot before and after; what described them is deleted and must be made again. `objects` and
    `bytes` count what was deleted or replaced by less, `events` what `forget` changed.
    """

    photos: dict[str, int]
    copies: int = 0
    already: int = 0
    unknown: tuple[int, ...] = ()
    photographers: int = 0
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)
    shards: int = 0
    tables: int = 0
    objects: int = 0
    bytes: int = 0
    events: int = 0

    @property
    def campaigns(self) -> set[str]:
        """The campaigns of the affected versions."""
        return {ref.partition("@")[0] for ref in self.versions}


def read_requests(path: Path, reason: Reason = "legal") -> list[RemovalRequest]:
    """Read a list of photos: CSV or plain text with a header `photo_id` and maybe `reason`.

    Parameters
    ----------
    reason
        That of lines which give none.

    Raises
    ------
    UsageError
        The file cannot be read or has no such header, or lines are wrong: each is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")
    names = [name.strip().lower() for name in header.split(delimiter)]
    if "photo_id" not in names:
        raise UsageError(f"{path}: the first line is {header[:80]!r}; it must name the column photo_id")
    found: dict[int, RemovalRequest] = {}
    bad: list[str] = []
    for number, cells in enumerate(csv.reader(lines[1:], delimiter=delimiter), start=2):
        if not any(cell.strip() for cell in cells):
            continue
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        try:
            if len(cells) > len(names):
                raise UsageError(f"{len(cells)} columns instead of {len(names)}")
            request = RemovalRequest(row["photo_id"], row.get("reason") or reason)  # type: ignore[arg-type]
        except UsageError as error:
            bad.append(f"line {number}: {error}")
        else:
            found.setdefault(request.photo_id, request)
    if bad:
        more = f"; and {len(bad) - _TOLD} more" if len(bad) > _TOLD else ""
        raise UsageError(f"{path}: {'; '.join(bad[:_TOLD])}{more}")
    return list(found.values())


def pending(lake: Lake, requests: Iterable[RemovalRequest]) -> list[RemovalRequest]:
    """The requests that are not carried out yet, those of an interrupted removal included."""
    tombstones, under_way = (
        load_tombstones(lake),
        {photo_id for order in _orders(lake) for photo_id in order.photos},
    )
    return [
        request
        for request in requests
        if request.photo_id in under_way or not tombstones.of_photo(request.photo_id)
    ]


def unfinished(lake: Lake) -> int:
    """How many photos an interrupted removal was to take back; the next call of `remove` completes it."""
    return sum(len(order.photos) for order in _orders(lake))


def remove(
    lake: Lake,
    requests: Sequence[RemovalRequest],
    *,
    progress: Progress | None = None,
    forget: Forget | None = None,
) -> RemovalReport:
    """Take photos back, and complete what an earlier call was interrupted in.

    Pictures of the same bytes under other ids go too. Photographers go where the lake has no other photo of
    theirs.

    Parameters
    ----------
    progress
        Told of each step in a few words.
    forget
        Takes photos, copies among them, out of a log that is kept beside the lake, and says how many events
        it changed. It is called again when an interrupted removal goes on.

    Raises
    ------
    LakeError
        The lake cannot be read or written; call again to go on.
    """
    with lease(lake, LEASE), lake.connect() as connection:
        work = _Work(lake, connection, progress or (lambda text: None), forget or (lambda photos: 0))
        for order in _orders(lake):
            work.carry_out(order)
        tombstones = load_tombstones(lake)
        new = {
            request.photo_id: request.reason
            for request in requests
            if not tombstones.of_photo(request.photo_id)
        }
        if new:
            order, unknown = work.order(new)
            work.unknown = unknown
            work.carry_out(order)
        asked = {request.photo_id for request in requests}
        return work.report(already=len(asked - set(new) - work.photos))


@dataclass(frozen=True, slots=True)
class _Order:
    """A work order: photos with reasons, digests of their images, photographers and observations that may go
    with them, and what the reports on photo tables will say of merged rows."""

    name: str
    day: str
    photos: dict[int, Reason]
    copies: int
    images: tuple[str, ...]
    observers: tuple[int, ...]
    observations: tuple[str, ...]
    merged: dict[str, tuple[int, int]]

    @property
    def key(self) -> str:
        return f"{_OPEN}/{self.name}.json"

    def data(self) -> bytes:
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values, sort_keys=True, indent=1).encode()


def _orders(lake: Lake) -> list[_Order]:
    orders = []
    for key in lake.list(_OPEN):
        try:
            values = json.loads(lake.get(key))
            values["photos"] = {int(photo_id): reason for photo_id, reason in values["photos"].items()}
            values["merged"] = {name: tuple(pair) for name, pair in values["merged"].items()}
            orders.append(_Order(**values))
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"{lake.uri(key)} is damaged ({error}); restore it from a copy") from error
    return orders


class _Work:
    """Carries out orders, and counts."""

    def __init__(
        self, lake: Lake, connection: duckdb.DuckDBPyConnection, tell: Progress, forget: Forget
    ) -> None:
        self._lake, self._connection, self._tell, self._forget = lake, connection, tell, forget
        self.photos: set[int] = set()
        self.unknown: tuple[int, ...] = ()
        self._reasons: dict[str, int] = {}
        self._copies = self._photographers = self._shards = self._tables = 0
        self._objects = self._bytes = self._events = 0
        self._versions: dict[str, tuple[str, str]] = {}

    def report(self, already: int) -> RemovalReport:
        return RemovalReport(
            photos=dict(sorted(self._reasons.items())),
            copies=self._copies,
            already=already,
            unknown=self.unknown,
            photographers=self._photographers,
            versions=self._versions,
            shards=self._shards,
            tables=self._tables,
            objects=self._objects,
            bytes=self._bytes,
            events=self._events,
        )

    # --- the order

    def order(self, requested: dict[int, Reason]) -> tuple[_Order, tuple[int, ...]]:
        """Find out what must go, and write it down; also the photos that the lake does not have."""
        self._tell("looking for the photos")
        photos, images = dict(requested), set[str]()
        indexes = self._indexes()
        while indexes:
            found = self._connection.execute(
                f"SELECT photo_id, lower(hex(sha256)) FROM {files_sql(indexes)} "
                "WHERE list_contains($ids, photo_id) OR list_contains($images, lower(hex(sha256)))",
                {"ids": list(photos), "images": sorted(images)},
            ).fetchall()
            new = {photo_id for photo_id, _ in found} - photos.keys()
            more = {digest for _, digest in found} - images
            if not new and not more:
                break
            images |= more
            # A copy goes for the reason of the first photo it is a copy of.
            reason_of = {digest: photos[photo_id] for photo_id, digest in found if photo_id in photos}
            photos |= {
                photo_id: reason_of.get(digest, "legal") for photo_id, digest in found if photo_id in new
            }
        seen, observers, observations = set[int](), set[int](), set[str]()
        merged: dict[str, tuple[int, int]] = {}
        for release in self._releases("raw"):
            rows = self._raw_rows(release, photos)
            seen |= {row[0] for row in rows}
            observations |= {row[1] for row in rows}
            observers |= {row[2] for row in rows if row[2] is not None}
            tables = release.replace("raw/", "tables/", 1)
            with suppress(NotFoundError):
                report = PhotosReport.model_validate_json(self._lake.get(f"{tables}/photos.json"))
                merged[tables] = self._merged(tables, report, rows)
        stored = {photo_id for photo_id, _ in found} if indexes else set()
        name = hashlib.sha256(json.dumps(sorted(photos)).encode()).hexdigest()[:16]
        order = _Order(
            name=name,
            day=datetime.now(UTC).date().isoformat(),
            photos=photos,
            copies=len(photos.keys() - requested.keys()),
            images=tuple(sorted(images)),
            observers=tuple(sorted(observers)),
            observations=tuple(sorted(observations)),
            merged=merged,
        )
        self._lake.put(order.key, order.data())
        return order, tuple(sorted(requested.keys() - seen - stored))

    def _raw_rows(self, release: str, photos: Collection[int]) -> list[tuple[Any, ...]]:
        """photo_id, observation_uuid, observer_id of every raw row of the photos."""
        key = f"{release}/photos.parquet"
        if not self._lake.exists(key):
            return []
        return self._connection.execute(
            f"SELECT photo_id, observation_uuid::VARCHAR, observer_id FROM {self._sql(key)} "
            f"WHERE photo_id IN ({_numbers(photos)})"
        ).fetchall()

    def _merged(self, tables: str, report: PhotosReport, rows: list[tuple[Any, ...]]) -> tuple[int, int]:
        """Duplicates and further observations that the report on a photo table counts without the photos."""
        rejected = {
            (photo_id, observation)
            for photo_id, observation in self._connection.execute(
                "SELECT photo_id, observation_uuid::VARCHAR FROM "
                + self._sql(f"{tables}/photos.rejects.parquet")
            ).fetchall()
        }
        taken = [(row[0], row[1]) for row in rows if (row[0], row[1]) not in rejected]
        pairs, photos = set(taken), {photo_id for photo_id, _ in taken}
        return report.duplicates - (len(taken) - len(pairs)), report.shared_extra - (len(pairs) - len(photos))

    # --- carrying it out

    def carry_out(self, order: _Order) -> None:
        """Do all that is left to do of an order, then delete it."""
        lake = self._lake
        photos, images = order.photos, [bytes.fromhex(digest) for digest in order.images]
        reason = next(iter(photos.values()))
        bury(lake, order.name, photos, dict.fromkeys(images, reason), order.day)
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("rewriting shards", lambda: self._rewrite_shards(order)),
            ("giving snapshots successors", lambda: self._succeed(order)),
            ("forgetting selections", lambda: self._forget_selections(order)),
            ("rewriting tables", lambda: self._rewrite_tables(order)),
            ("deleting what they were in", lambda: self._delete_old(order)),
            ("purging the ledger", Ledger(lake).purge),
            ("forgetting events", lambda: self._forget_events(order)),
        )
        self._moved: dict[str, ShardRef | None] = {}
        with task("remove", len(steps), "step") as shown:
            for text, step in steps:
                self._tell(text)
                step()
                shown.advance(note=text)
        lake.delete(order.key)
        self.photos |= photos.keys()
        self._copies += order.copies
        for why in photos.values():
            self._reasons[why] = self._reasons.get(why, 0) + 1

    def _rewrite_shards(self, order: _Order) -> None:
        """Shards without the photos beside those with them; the ledger names the new ones."""
        lake, ledger = self._lake, Ledger(self._lake)
        for rendition, digest in self._shards_with(order):
            left = repack(lake, rendition, [digest], without=order.photos.keys())
            self._moved[digest] = shard_ref(lake, rendition, left.sha256) if left else None
            self._shards += 1
        ledger.forget(list(order.photos))
        ledger.move({digest: new.tar.sha256 if new else None for digest, new in self._moved.items()})

    def _forget_events(self, order: _Order) -> None:
        self._events += self._forget(order.photos.keys())

    def _shards_with(self, order: _Order) -> list[tuple[str, str]]:
        """Rendition and digest of the shards that hold one of the photos."""
        indexes = self._indexes()
        if not indexes:
            return []
        found = self._connection.execute(
            f"SELECT DISTINCT filename FROM {files_sql(indexes)[:-1]}, filename = true) "
            f"WHERE photo_id IN ({_numbers(order.photos)}) ORDER BY 1"
        ).fetchall()
        places = [name.split("/")[-3:] for (name,) in found]
        return [(rendition, name.removesuffix(".index.parquet")) for rendition, _, name in places]

    def _succeed(self, order: _Order) -> None:
        """Successors, oldest version first, so that each finds its parent's."""
        taken = Taken(order.photos, self._parts_with(order), self._moved, order.day)
        for campaign in refs.campaigns(self._lake):
            for version in refs.versions(self._lake, campaign):
                made = succeed(self._lake, version, taken, self._connection)
                if made:
                    self._versions[version.ref] = (version.snapshot_id, made[0].snapshot_id)

    def _parts_with(self, order: _Order) -> set[str]:
        """Parts that hold one of the photos, whether a version names them or not."""
        parts = list(self._lake.list(PARTS))
        if not parts:
            return set()
        gone, source = _numbers(order.photos), files_sql([self._lake.uri(key) for key in parts])
        options = "filename = true, union_by_name = true"
        sql = f"SELECT DISTINCT filename FROM {source[:-1]}, {options}) WHERE photo_id IN ({gone})"
        schema = self._connection.execute(f"DESCRIBE SELECT * FROM {source[:-1]}, {options})").fetchall()
        names = {row[0] for row in schema}
        if "photo_id" not in names:
            return set()
        if "stays" in names:
            sql += f" OR stays IN ({gone})"
        return {f"{PARTS}/{name.rsplit('/', 1)[-1]}" for (name,) in self._connection.execute(sql).fetchall()}

    def _forget_selections(self, order: _Order) -> None:
        """Partitions that selected one of the photos are selected anew by the next build."""
        lake = self._lake
        for campaign in lake.folders("campaigns"):
            folder = f"campaigns/{campaign}/selection"
            keys = [key for key in lake.list(folder) if key.endswith(".parquet")]
            for key in keys:
                if self._holds(key, f"photo_id IN ({_numbers(order.photos)})"):
                    name = key.rsplit("/", 1)[-1].removesuffix(".parquet").removesuffix(".excluded")
                    for suffix in (".json", ".excluded.parquet", ".parquet"):
                        lake.delete(f"{folder}/{name}{suffix}")
                    lake.delete(f"campaigns/{campaign}/shards/{name}.json")

    # --- raw and tables

    def _rewrite_tables(self, order: _Order) -> None:
        gone = f"photo_id IN ({_numbers(order.photos)})"
        for release in self._releases("raw"):
            self._rewrite_raw(release, order, gone)
        for release in self._releases("tables"):
            self._rewrite_photos(release, order, gone)

    def _rewrite_raw(self, release: str, order: _Order, gone: str) -> None:
        """Photos, then the observations and observers that nothing refers to any more, then the report."""
        lake = self._lake
        tables = {
            name: f"{release}/{name}.parquet"
            for name in RAW_TABLES
            if lake.exists(f"{release}/{name}.parquet")
        }
        if "photos" not in tables:
            return
        photos = self._sql(tables["photos"])
        texts = [str(photo_id) for photo_id in order.photos]
        self._drop(tables["photos"], gone)
        if order.observations and "observations" in tables:
            listed = ", ".join(quoted(text) for text in order.observations)
            alone = (
                f"observation_uuid IN (SELECT unnest([{listed}]::UUID[])) AND observation_uuid NOT IN "
                f"(SELECT observation_uuid FROM {photos} "
                f"WHERE observation_uuid IN (SELECT unnest([{listed}]::UUID[])))"
            )
            left = {
                row[0]
                for row in self._connection.execute(
                    f"SELECT DISTINCT observation_uuid::VARCHAR FROM {photos} "
                    f"WHERE observation_uuid IN (SELECT unnest([{listed}]::UUID[]))"
                ).fetchall()
            }
            texts += [text for text in order.observations if text not in left]
            for name in ("observations", "observations_projects"):
                if name in tables:
                    self._drop(tables[name], alone)
        if order.observers and "observers" in tables:
            texts += self._drop_observers(tables, order)
        for name in RAW_TABLES:
            # A line that was set aside is kept as text.
            words = "|".join(re.escape(text) for text in texts)
            if words:
                pattern = quoted(f"(^|[^0-9A-Za-z-])({words})([^0-9A-Za-z-]|$)")
                self._drop(f"{release}/{name}.rejects.parquet", f"regexp_matches(text, {pattern})")
        self._recount_raw(release)

    def _drop_observers(self, tables: dict[str, str], order: _Order) -> list[str]:
        """Drop the observers of whom nothing is left in a release; the names they went by."""
        listed = ", ".join(str(observer) for observer in order.observers)
        others = " UNION ALL ".join(
            f"SELECT observer_id FROM {self._sql(tables[name])} WHERE observer_id IN ({listed})"
            for name in ("photos", "observations")
            if name in tables
        )
        alone = f"observer_id IN ({listed}) AND observer_id NOT IN ({others})"
        names = self._connection.execute(
            f"SELECT login, name FROM {self._sql(tables['observers'])} WHERE {alone}"
        ).fetchall()
        self._photographers += self._drop(tables["observers"], alone)
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

    def _rewrite_photos(self, release: str, order: _Order, gone: str) -> None:
        """The photo table with its index, rejects, changes and reports."""
        lake = self._lake
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
        duplicates, shared_extra = order.merged.get(release, (report.duplicates, report.shared_extra))
        photos, shared, disagreeing = scalars(
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
                "photos": photos,
                "duplicates": duplicates,
                "shared_extra": shared_extra,
                "rejected": rejected,
                "shared": shared,
                "disagreeing": disagreeing,
                "raw_rows": photos + duplicates + shared_extra + sum(rejected.values()),
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
        self._tables += 1
        return int(count)

    # --- deleting

    def _delete_old(self, order: _Order) -> None:
        """Delete withdrawn roots with what only they name, parts and shards that hold the photos, and
        archives without an index that do."""
        lake = self._lake
        live = live_keys(lake)
        doomed: list[str] = []
        for gone in refs.withdrawals(lake):
            key = refs.root_key(gone.snapshot_id)
            if lake.exists(key):
                root = refs.read_root(lake, gone.snapshot_id)
                # Shards without the photos serve later builds; those with them are told by their index.
                doomed += [file.key for file in root.files() if file.key.startswith(PARTS)]
                doomed.append(key)
        doomed += sorted(self._parts_with(order))
        for rendition, digest in self._shards_with(order):
            # The index first: without it an archive does not exist, and is looked into below.
            doomed.append(index_key(rendition, digest))
        for key in dict.fromkeys(doomed):
            if key in live:
                continue
            self._delete(key)
        for key in self._unindexed():
            if self._mentions(key, order):
                self._delete(key)

    def _delete(self, key: str) -> None:
        size = self._lake.size(key)
        if size is not None:
            self._lake.delete(key)
            self._objects += 1
            self._bytes += size

    def _unindexed(self) -> Iterator[str]:
        keys = set(self._lake.list("shards"))
        for key in sorted(keys):
            if key.endswith(".tar") and key.removesuffix(".tar") + ".index.parquet" not in keys:
                yield key

    def _mentions(self, key: str, order: _Order) -> bool:
        """Whether an archive may have a member of one of the photos, by the names in its headers; a name that
        only ends like one does no harm, since what has no index is garbage anyway."""
        names = [f"{photo_id}.json".encode().ljust(100, b"\0") for photo_id in order.photos]
        tail = b""
        for chunk in self._lake.chunks(key):
            data = tail + chunk
            if any(name in data for name in names):
                return True
            tail = data[-100:]
        return False

    # --- reading

    def _indexes(self) -> list[str]:
        return [self._lake.uri(key) for key in self._lake.list("shards") if key.endswith(".index.parquet")]

    def _releases(self, folder: str) -> list[str]:
        lake = self._lake
        return [
            f"{folder}/{source}/{release}"
            for source in lake.folders(folder)
            for release in lake.folders(f"{folder}/{source}")
        ]

    def _sql(self, key: str) -> str:
        return files_sql([self._lake.uri(key)])

    def _rows(self, key: str) -> int:
        return int(scalars(self._connection, f"SELECT count(*) FROM {self._sql(key)}")[0])

    def _holds(self, key: str, where: str) -> bool:
        return bool(scalars(self._connection, f"SELECT count(*) FROM {self._sql(key)} WHERE {where}")[0])


def live_keys(lake: Lake) -> set[str]:
    """Every object that some version reaches: its record, root, parts, shards and catalogue files."""
    live: set[str] = set()
    for campaign in refs.campaigns(lake):
        for version in refs.versions(lake, campaign):
            live |= {refs.version_key(version), refs.root_key(version.snapshot_id)}
            live |= {file.key for file in refs.read_root(lake, version.snapshot_id).files()}
            if version.removed:
                live.add(version.removed.key)
    return live


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


def _numbers(photos: Iterable[int]) -> str:
    return ", ".join(str(int(photo_id)) for photo_id in photos)
