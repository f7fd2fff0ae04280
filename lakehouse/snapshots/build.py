"""Selection and ledger become a snapshot: parts, root, version.

A photo is in the snapshot if its partition's selection names it and the ledger says it is stored. Writing
goes from the leaves to the name (parts, then root, then version record), so a run that is killed leaves at
most files that nothing refers to yet, and the next run finds them under the same digests.
"""

from __future__ import annotations

import hashlib
import platform
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed
from typing import get_args

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.campaign import Campaign
from lakehouse.errors import GateError, LakeError, NotFoundError
from lakehouse.images.partition import load_state
from lakehouse.lake import Lake
from lakehouse.metadata.engine import files_sql
from lakehouse.metadata.ingest import load_raw_release
from lakehouse.metadata.partitions import Plan, load_plan
from lakehouse.metadata.selection import (
    SPLIT_SALT,
    SelectionReport,
    load_selection_report,
    reasons_of,
    selection_key,
)
from lakehouse.metadata.taxonomy import taxa_key
from lakehouse.progress import task
from lakehouse.snapshots import refs
from lakehouse.snapshots.choice import Choice, chosen_photos
from lakehouse.snapshots.diff import count_changes, removed_rows
from lakehouse.snapshots.identity import canonical_json, sha256_hex
from lakehouse.snapshots.model import (
    About,
    Counts,
    FileRef,
    Inputs,
    Kind,
    PartitionParts,
    Root,
    ShardRef,
    Version,
    fates,
)
from lakehouse.snapshots.parts import REPEATED_TEXTS, PartWriter, shard_ref
from lakehouse.snapshots.schema import DROPPED, LABELS, RECORDS, REMOVED, TAXA
from lakehouse.snapshots.tables import batches
from lakehouse.tombstones import load_tombstones

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class SnapshotBuild:
    """What a build ended in: the version, and whether it is new (`created` false: nothing changed since)."""

    version: Version
    root: Root
    created: bool


@dataclass(slots=True)
class _Tally:
    """What is counted while the partitions pass by."""

    considered: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    labels: set[int] = field(default_factory=set)
    shards: set[str] = field(default_factory=set)
    observations: int = 0
    photos: int = 0
    bytes: int = 0

    def add(self, other: _Tally) -> None:
        """Take in what another one counted of other photos (an observation has all its photos in one
        partition)."""
        self.splits.update(other.splits)
        self.licenses.update(other.licenses)
        self.labels |= other.labels
        self.shards |= other.shards
        self.observations += other.observations
        self.photos += other.photos
        self.bytes += other.bytes


def build_snapshot(
    lake: Lake,
    campaign: Campaign,
    source_name: str,
    reference_url: str,
    connection: duckdb.DuckDBPyConnection,
    run_id: str | None = None,
) -> SnapshotBuild:
    """Build the campaign's next version from its plan, selections and the ledger.

    Parameters
    ----------
    run_id
        The run that asked for it, for the version's provenance.

    Raises
    ------
    GateError
        More of the selected photos failed than the campaign allows.
    LakeError
        A partition was not selected for the plan's release, a selected photo was never tried, nothing at all
        is stored, another run published the same version number first, or photos were taken back meanwhile.
    """
    plan = load_plan(lake, campaign.name)
    parent = refs.latest(lake, campaign.name)
    parent_root = refs.read_root(lake, parent.snapshot_id) if parent else None
    buried = load_tombstones(lake).digest
    tally, partitions = _Tally(), []
    reports = [_selected(lake, campaign, plan, partition.key) for partition in plan.partitions]
    for report in reports:
        tally.considered.update(considered=report.considered, selected=report.selected)
        tally.considered.update({f"excluded.{reason}": count for reason, count in report.excluded.items()})
    keys = [report.key for report in reports if report.selected]
    if not keys:
        raise LakeError(_nothing_stored(campaign, tally.considered))
    with chosen_photos(lake, campaign, source_name, keys, connection) as choice:
        accounting = _accounting(tally.considered, choice)
        _check_gate(campaign, accounting)
        writer = PartWriter(lake, parent_root)
        parts_before = {parts.partition: parts for parts in parent_root.partitions} if parent_root else {}
        with task("snapshot", len(keys), "partition") as progress:
            for parts, part in _in_two(
                lambda place, photos: _write_partition(
                    writer, lake, campaign, keys[place], photos, parts_before.get(keys[place])
                ),
                choice.kept(),
            ):
                partitions.append(parts)
                tally.add(part)
                progress.advance()
        if not tally.photos:
            raise LakeError(_nothing_stored(campaign, accounting))
        dropped = choice.dropped()
        root = Root(
            campaign=campaign.name,
            content_id="",
            parameters=campaign.parameters(),
            split_salt=SPLIT_SALT,
            counts=Counts(
                photos=tally.photos,
                labels=len(tally.labels),
                observations=tally.observations,
                bytes=tally.bytes,
                splits=dict(sorted(tally.splits.items())),
                licenses=dict(sorted(tally.licenses.items())),
            ),
            shards=tuple(_shard_refs(lake, campaign.image.slug, tally.shards, parent_root)),
            partitions=tuple(sorted(partitions, key=lambda parts: keys.index(parts.partition))),
            taxa=_write_taxa(writer, lake, source_name, plan.release, tally.labels, campaign.label),
            dropped=writer.store(dropped, DROPPED) if len(dropped) else None,
            inputs=Inputs(
                source=source_name,
                reference_url=reference_url,
                release=plan.release,
                tables={
                    table.name: table.sha256
                    for table in load_raw_release(lake, source_name, plan.release).tables
                },
            ),
        )
        basis = _basis(lake, campaign, plan)
        if parent and parent_root and _same_data(root, parent_root):
            lake.put(_basis_key(campaign.name), basis.encode())
            return SnapshotBuild(parent, parent_root, created=False)
        with ThreadPoolExecutor(1) as pool:
            # From the ledger, which has the digests that the shards' indexes have: verify reads those.
            identity = choice.identity_sql(lake.uri(root.taxa.key))
            digest = pool.submit(lambda: _digest(root, batches(choice.cursor, identity)))
            changes, removed = count_changes(connection, lake, parent_root, root), None
        root = root.model_copy(update={"content_id": digest.result()})
        if parent_root and changes["removed"]:
            gone = _why_removed(lake, campaign, plan, choice, connection, parent_root, root)
            removed = writer.store(gone, REMOVED)
    data = canonical_json(root)
    snapshot_id = sha256_hex(data)
    lake.put(refs.root_key(snapshot_id), data)
    version = Version(
        campaign=campaign.name,
        version=parent.version + 1 if parent else 1,
        snapshot_id=snapshot_id,
        parent=parent.snapshot_id if parent else None,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        changes=changes,
        accounting=dict(accounting),
        about=About(title=campaign.title, description=campaign.description, creators=campaign.creators),
        kinds=kinds_of(changes, first=parent is None),
        removed=removed,
        label_splits=choice.label_splits,
        provenance=_provenance(campaign, run_id),
    )
    refs.create_version(lake, version)
    if load_tombstones(lake).digest != buried:
        raise LakeError(
            f"photos were taken back while {version.ref} was built and may be in it: run lakehouse remove "
            "again before anybody gets this version"
        )
    lake.put(_basis_key(campaign.name), basis.encode())
    return SnapshotBuild(version, root, created=True)


def kinds_of(changes: Mapping[str, int], *, first: bool) -> tuple[Kind, ...]:
    """The kinds of change that made a version, from the counts of `diff`."""
    if first:
        return ("first",)
    of = {
        "added": changes["added"],
        "removed": changes["removed"],
        "relabelled": changes["relabelled"] + changes["moved"] + changes["resplit"],
        "relicensed": changes["relicensed"],
    }
    return tuple(kind for kind in KINDS if of.get(kind)) or ("repacked",)


def _identity_sql(lake: Lake, root: Root) -> str:
    """The rows that a content_id covers, of the manifest no more than it takes."""
    labels = files_sql([lake.uri(parts.labels.key) for parts in root.partitions])
    records = files_sql([lake.uri(parts.records.key) for parts in root.partitions])
    indexes = files_sql([lake.uri(shard.index.key) for shard in root.shards])
    return f"""
        SELECT photo_id, sha256, label_id, label, license, split
        FROM (SELECT photo_id, label_id, license, split FROM {labels})
        JOIN (SELECT photo_id, shard FROM {records}) USING (photo_id)
        JOIN (SELECT photo_id, sha256, parse_filename(filename)[:64] AS shard
              FROM {indexes[:-1]}, filename = true)) USING (photo_id, shard)
        JOIN {files_sql([lake.uri(root.taxa.key)])} USING (label_id)
        ORDER BY photo_id"""


def _selected(lake: Lake, campaign: Campaign, plan: Plan, key: str) -> SelectionReport:
    report = load_selection_report(lake, campaign.name, key)
    if report is None or report.plan_digest != plan.digest:
        raise LakeError(
            f"partition {key} of {campaign.name!r} was not selected for release {plan.release}; "
            f"materialize its selection and shards first (lakehouse build does)"
        )
    return report


def _accounting(considered: Counter[str], choice: Choice) -> Counter[str]:
    """Every photo considered, under what became of it."""
    accounting = considered + choice.accounting
    if choice.taken_back:
        accounting["selected"] -= choice.taken_back
        accounting["excluded.taken_back"] += choice.taken_back
    return accounting


def _why_removed(
    lake: Lake,
    campaign: Campaign,
    plan: Plan,
    choice: Choice,
    connection: duckdb.DuckDBPyConnection,
    old: Root,
    new: Root,
) -> pa.Table:
    """The photos of the parent that are not in the root any more, with the reason: schema `REMOVED`."""
    gone = removed_rows(connection, lake, old, new)
    cursor = choice.cursor
    cursor.register("gone", gone)
    known = cursor.sql("""
        SELECT photo_id, coalesce(d.reason, p.outcome) AS reason
        FROM gone JOIN picked p USING (photo_id) LEFT JOIN dropped d USING (photo_id)
    """).to_arrow_table()
    cursor.unregister("gone")
    others = gone.filter(pc.invert(pc.is_in(gone["photo_id"], known["photo_id"])))
    reasons = pl.DataFrame(known)
    if len(others):
        asked = reasons_of(lake, campaign, plan, others["photo_id"].combine_chunks(), connection)
        reasons = pl.concat([reasons, pl.DataFrame(asked)])
    joined = pl.DataFrame(gone).join(reasons, on="photo_id", how="left").sort("photo_id")
    return joined.to_arrow(compat_level=pl.CompatLevel.oldest())


def _provenance(campaign: Campaign, run_id: str | None) -> dict[str, str]:
    """What software made a version, from which campaign file, in which run."""
    names = ("lakehouse", "pyarrow", "duckdb", "polars", "pillow", "simplejpeg")
    versions = {name: installed(name) for name in names}
    campaign_digest = sha256_hex(canonical_json(campaign.model_dump(mode="json")))
    return {
        **versions,
        "python": platform.python_version(),
        "campaign": campaign_digest,
        **({"run": run_id} if run_id else {}),
    }


def is_current(lake: Lake, campaign: Campaign) -> bool:
    """Whether the newest version was built from the campaign, plan and partitions as they are."""
    try:
        found = lake.get(_basis_key(campaign.name)).decode()
        return found == _basis(lake, campaign, load_plan(lake, campaign.name))
    except NotFoundError:
        return False


def _basis(lake: Lake, campaign: Campaign, plan: Plan) -> str:
    """A digest of all that a snapshot is built from."""
    states = {
        partition.key: state.digest if (state := load_state(lake, campaign.name, partition.key)) else None
        for partition in plan.partitions
    }
    return sha256_hex(
        canonical_json({"campaign": campaign.model_dump(mode="json"), "plan": plan.digest, "states": states})
    )


def _basis_key(campaign: str) -> str:
    return f"campaigns/{campaign}/snapshot"


def content_id(connection: duckdb.DuckDBPyConnection, lake: Lake, root: Root) -> str:
    """The sha256 over the campaign's parameters and the logical rows in photo order.

    A row is photo id, sha256 of the bytes, label id, label, licence and split, separated by tabs and ended by
    a newline; equal wherever, however and in however many refreshes the snapshot was built.
    """
    lake.attach(connection)
    return _digest(root, batches(connection, _identity_sql(lake, root)) if root.partitions else ())


def _digest(root: Root, rows: Iterable[pa.RecordBatch]) -> str:
    digest = hashlib.sha256(canonical_json({"parameters": root.parameters, "split_salt": root.split_salt}))
    for batch in rows:
        frame = pl.DataFrame(batch).with_columns(pl.col("sha256").bin.encode("hex"))
        cells = [piece for name in frame.columns for piece in (name, pl.lit("\t"))]
        lines = frame.select(pl.concat_str(*cells[:-1], pl.lit("\n"))).to_series()
        # The texts of an Arrow column follow each other in one buffer.
        texts = lines.to_arrow(compat_level=pl.CompatLevel.oldest()).buffers()[2]
        digest.update(texts)
    return digest.hexdigest()


def _write_partition(
    writer: PartWriter,
    lake: Lake,
    campaign: Campaign,
    key: str,
    photos: pa.Table,
    before: PartitionParts | None,
) -> tuple[PartitionParts, _Tally]:
    """Write the parts of one partition, of which the snapshot takes `photos`, and count it."""
    tally = _Tally()
    columns = [name for name in dict.fromkeys([*LABELS.names, *RECORDS.names]) if name != "shard"]
    table = lake.read_table(selection_key(campaign.name, key), columns, repeated=REPEATED_TEXTS)
    if len(photos) < len(table):
        places = np.searchsorted(table["photo_id"].to_numpy(), photos["photo_id"].to_numpy())
        table = table.take(pa.array(places))
    table = table.append_column("shard", photos["shard"].combine_chunks().dictionary_encode())
    tally.photos += len(table)
    tally.bytes += int(pc.sum(photos["size"]).as_py())
    tally.observations += pl.Series(table["observation_uuid"].combine_chunks().storage).n_unique()
    tally.labels.update(pc.unique(table["label_id"]).to_pylist())
    tally.shards.update(pc.unique(table["shard"]).to_pylist())
    for column, counter in (("split", tally.splits), ("license", tally.licenses)):
        counter.update(dict(pl.Series(column, table[column].cast(pa.string())).value_counts().iter_rows()))
    parts = PartitionParts(
        partition=key,
        labels=writer.store(table, LABELS, before.labels if before else None),
        records=writer.store(table, RECORDS, before.records if before else None),
    )
    return parts, tally


def _in_two(
    work: Callable[[int, pa.Table], tuple[PartitionParts, _Tally]], items: Iterable[tuple[int, pa.Table]]
) -> Iterator[tuple[PartitionParts, _Tally]]:
    """The results of some work in order, two items at a time: no more than that is in memory."""
    with ThreadPoolExecutor(2) as pool:
        ahead: deque[Future[tuple[PartitionParts, _Tally]]] = deque()
        for item in items:
            ahead.append(pool.submit(work, *item))
            if len(ahead) == 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _check_gate(campaign: Campaign, accounting: Counter[str]) -> None:
    """What is gone at the source is no failure; everything else that should have come and did not is one."""
    bad = {name: accounting[name] for name in ("failed", "refused", "rejected") if accounting[name]}
    share = sum(bad.values()) / max(1, accounting["selected"])
    if share > campaign.gate.max_failed:
        counts = ", ".join(f"{count:,} {name}" for name, count in bad.items())
        raise GateError(
            f"{share:.1%} of the {accounting['selected']:,} photos selected for {campaign.name!r} failed "
            f"({counts}), above the gate of {campaign.gate.max_failed:.1%}; what was fetched is kept: "
            "build again later, or raise gate.max_failed"
        )


def _write_taxa(
    writer: PartWriter, lake: Lake, source_name: str, release: str, labels: Iterable[int], rank: str
) -> FileRef:
    """The label taxa with their classification; a rank that the tree does not have above a taxon is null."""
    taxa = pl.scan_parquet(lake.uri(taxa_key(source_name, release)), storage_options=lake.storage_options)
    have = set(taxa.collect_schema().names())
    ranks = TAXA.names[3:]
    chosen = (
        taxa.filter(pl.col("taxon_id").is_in(sorted(labels)))
        .select(
            pl.col("taxon_id").cast(pl.Int32).alias("label_id"),
            pl.col("name").alias("label"),
            pl.col("rank").alias("taxon_rank"),
            *((pl.col(name) if name in have else pl.lit(None, pl.String).alias(name)) for name in ranks),
        )
        .sort("label_id")
        .collect()
    )
    return writer.store(chosen.to_arrow(compat_level=pl.CompatLevel.oldest()), TAXA)


def _shard_refs(
    lake: Lake, rendition: str, digests: Iterable[str], parent: Root | None
) -> Iterable[ShardRef]:
    """A reference for each shard, taken over from the parent where it is there (an index is hashed once)."""
    known = {shard.tar.sha256: shard for shard in parent.shards} if parent else {}
    for digest in sorted(digests):
        if digest in known:
            yield known[digest]
            continue
        yield shard_ref(lake, rendition, digest)


def _same_data(one: Root, other: Root) -> bool:
    """Whether two roots name the same parts and parameters; a new dump that changes none of them is
    nothing new."""
    ignored = {"inputs", "content_id"}
    return one.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


def _nothing_stored(campaign: Campaign, accounting: Counter[str]) -> str:
    """Why a campaign has no photo, in one sentence."""
    if not accounting["considered"]:
        return f"the source has no photo under the taxa of campaign {campaign.name!r}; look at its 'taxa'"
    counts = ", ".join(f"{count:,} {name}" for name, count in fates(accounting))
    advice = (
        "look at why its photos failed" if accounting["selected"] else "loosen its 'where' or 'per_label'"
    )
    return f"campaign {campaign.name!r} has no stored photo ({counts}); {advice}"
