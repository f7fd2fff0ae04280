"""A snapshot made anew without some photos: its parts, root and version record, all under new names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from lakehouse.metadata.engine import scalars
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import content_id
from lakehouse.snapshots.diff import count_changes
from lakehouse.snapshots.identity import canonical_json, sha256_hex
from lakehouse.snapshots.model import Counts, FileRef, PartitionParts, Root, ShardRef, Version, Withdrawal
from lakehouse.snapshots.parts import PartWriter
from lakehouse.snapshots.read import catalog_folder
from lakehouse.snapshots.schema import DROPPED, LABELS, RECORDS, REMOVED, TAXA
from lakehouse.snapshots.tables import manifest_sql
from lakehouse.tombstones import Reason


@dataclass(frozen=True, slots=True)
class Taken:
    """What is taken out of snapshots: photos with the reason, parts that hold them, and for each shard that
    was rewritten the one that took its place (None: nothing was left of it)."""

    photos: Mapping[int, Reason]
    parts: Collection[str]
    shards: Mapping[str, ShardRef | None]
    day: str

    def affects(self, version: Version, root: Root) -> bool:
        """Whether a version names a file that holds a photo."""
        files = {file.key for file in root.files()} | ({version.removed.key} if version.removed else set())
        return bool(files & set(self.parts)) or any(shard.tar.sha256 in self.shards for shard in root.shards)


def succeed(
    lake: Lake, version: Version, taken: Taken, connection: duckdb.DuckDBPyConnection
) -> tuple[Version, Root] | None:
    """Give an affected version a successor and its old id a tombstone; None if it is not affected.

    What describes the version is deleted with it. The record is replaced last: whoever is interrupted before
    that makes the same successor again.
    """
    root = refs.read_root(lake, version.snapshot_id)
    if not taken.affects(version, root):
        return None
    writer = PartWriter(lake)
    new = _redacted(lake, root, taken, writer, connection)
    data = canonical_json(new)
    snapshot_id = sha256_hex(data)
    lake.put(refs.root_key(snapshot_id), data)
    reasons = _removed_of(lake, root, taken)
    accounting = dict(version.accounting)
    for reason, count in reasons.items():
        name = f"dropped.{reason}"
        accounting[name] = accounting.get(name, 0) + count
    before = _before(lake, version)
    successor = version.model_copy(
        update={
            "snapshot_id": snapshot_id,
            "parent": before.snapshot_id if before else version.parent,
            "changes": count_changes(
                connection, lake, refs.read_root(lake, before.snapshot_id) if before else None, new
            ),
            "accounting": accounting,
            "kinds": tuple(dict.fromkeys((*version.kinds, "redacted"))),
            "removed": _filtered(lake, version.removed, REMOVED, taken, writer),
            "label_splits": _label_splits(lake, new, version, connection),
            "redacts": (*version.redacts, version.snapshot_id),
        }
    )
    for key in lake.list(catalog_folder(version)):
        lake.delete(key)
    tombstone = Withdrawal(
        snapshot_id=version.snapshot_id,
        campaign=version.campaign,
        version=version.version,
        successor=snapshot_id,
        removed=reasons,
        day=taken.day,
    )
    lake.put(refs.withdrawal_key(version.snapshot_id), canonical_json(tombstone))
    refs.replace_version(lake, successor)
    return successor, new


def _before(lake: Lake, version: Version) -> Version | None:
    """The version before, whose record says what its snapshot is called now."""
    earlier = [one for one in refs.versions(lake, version.campaign) if one.version < version.version]
    return earlier[-1] if earlier and version.parent else None


def _redacted(
    lake: Lake, root: Root, taken: Taken, writer: PartWriter, connection: duckdb.DuckDBPyConnection
) -> Root:
    partitions = [_partition(lake, parts, taken, writer) for parts in root.partitions]
    kept = tuple(parts for parts in partitions if parts)
    labels = {
        label
        for parts in kept
        for label in pc.unique(lake.read_table(parts.labels.key, ["label_id"])["label_id"]).to_pylist()
    }
    taxa = lake.read_table(root.taxa.key)
    left = taxa.filter(pc.is_in(taxa["label_id"], pa.array(sorted(labels), pa.int32())))
    used = {
        shard
        for parts in kept
        for shard in pc.unique(
            lake.read_table(parts.records.key, ["shard"])["shard"].cast(pa.string())
        ).to_pylist()
    }
    replaced = [taken.shards.get(shard.tar.sha256, shard) for shard in root.shards]
    shards = {shard.tar.sha256: shard for shard in replaced if shard and shard.tar.sha256 in used}
    new = root.model_copy(
        update={
            "content_id": "",
            "partitions": kept,
            "taxa": root.taxa if len(left) == len(taxa) else writer.store(left, TAXA),
            "dropped": _filtered(lake, root.dropped, DROPPED, taken, writer),
            "shards": tuple(shards[digest] for digest in sorted(shards)),
        }
    )
    new = new.model_copy(update={"counts": count(lake, new, connection)})
    return new.model_copy(update={"content_id": content_id(connection, lake, new)})


def _partition(lake: Lake, parts: PartitionParts, taken: Taken, writer: PartWriter) -> PartitionParts | None:
    """A partition's parts without the photos and with the shards' new names; None if nothing is left."""
    records = lake.read_table(parts.records.key)
    shards = records["shard"].cast(pa.string())
    named = set(pc.unique(shards).to_pylist())
    if (
        parts.labels.key not in taken.parts
        and parts.records.key not in taken.parts
        and not named & set(taken.shards)
    ):
        return parts
    labels = _without(lake.read_table(parts.labels.key), taken)
    names = {digest: new.tar.sha256 if new else "" for digest, new in taken.shards.items()}
    renamed = pa.array([names.get(digest, digest) for digest in shards.to_pylist()], pa.string())
    records = _without(records.set_column(records.schema.get_field_index("shard"), "shard", renamed), taken)
    if not len(labels):
        return None
    return PartitionParts(
        partition=parts.partition,
        labels=writer.store(labels, LABELS),
        records=writer.store(records, RECORDS),
    )


def _filtered(
    lake: Lake, file: FileRef | None, schema: pa.Schema, taken: Taken, writer: PartWriter
) -> FileRef | None:
    """A list of photos without those that were taken; one that gave way to such a photo gave way to none."""
    if file is None or file.key not in taken.parts:
        return file
    table = _without(lake.read_table(file.key), taken)
    if "stays" in schema.names:
        gone = pc.is_in(table["stays"], pa.array(list(taken.photos), pa.int64()))
        stays = pc.if_else(gone, pa.scalar(None, pa.int64()), table["stays"])
        table = table.set_column(table.schema.get_field_index("stays"), "stays", stays)
    return writer.store(table, schema) if len(table) else None


def _without(table: pa.Table, taken: Taken) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["photo_id"], pa.array(list(taken.photos), pa.int64()))))


def _removed_of(lake: Lake, root: Root, taken: Taken) -> dict[str, int]:
    """How many photos of a snapshot are taken, by reason."""
    counts: dict[str, int] = {}
    for parts in root.partitions:
        if parts.labels.key in taken.parts:
            for photo_id in lake.read_table(parts.labels.key, ["photo_id"])["photo_id"].to_pylist():
                if reason := taken.photos.get(photo_id):
                    counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))


def count(lake: Lake, root: Root, connection: duckdb.DuckDBPyConnection) -> Counts:
    """The counts of a snapshot, from its rows."""
    lake.attach(connection)
    rows = manifest_sql(lake, root)
    photos, labels, observations, total = scalars(
        connection,
        f"""SELECT count(*), count(DISTINCT label_id), count(DISTINCT observation_uuid),
                   coalesce(sum(size), 0) FROM ({rows})""",
    )
    by = {
        column: dict(
            connection.execute(f"SELECT {column}, count(*) FROM ({rows}) GROUP BY 1 ORDER BY 1").fetchall()
        )
        for column in ("split", "license")
    }
    return Counts(
        photos=photos,
        labels=labels,
        observations=observations,
        bytes=int(total),
        splits=by["split"],
        licenses=by["license"],
    )


def _label_splits(
    lake: Lake, root: Root, version: Version, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    found = dict(
        connection.execute(
            f"SELECT split, count(DISTINCT label_id) FROM ({manifest_sql(lake, root)}) GROUP BY 1"
        ).fetchall()
    )
    return {split: found.get(split, 0) for split in version.label_splits}
