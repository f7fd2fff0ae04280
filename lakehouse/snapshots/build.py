"""Selection and ledger become a snapshot: parts, root, version.

A photo is in the snapshot if its partition's selection names it and the ledger says it is stored. Writing
goes from the leaves to the name (parts, then root, then version record), so a run that is killed leaves at
most files that nothing refers to yet, and the next run finds them under the same digests.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.campaign import Campaign
from lakehouse.errors import GateError, LakeError, NotFoundError
from lakehouse.images.ledger import Ledger
from lakehouse.images.partition import load_state
from lakehouse.images.shard import index_key, shard_key
from lakehouse.lake import ROW_GROUP, Lake
from lakehouse.metadata.ingest import load_raw_release
from lakehouse.metadata.partitions import Plan, load_plan
from lakehouse.metadata.selection import SPLIT_SALT, load_selection_report, selection_key
from lakehouse.metadata.taxonomy import taxa_key
from lakehouse.progress import task
from lakehouse.snapshots import refs
from lakehouse.snapshots.diff import count_changes
from lakehouse.snapshots.identity import canonical_json, sha256_hex, sha256_of_file
from lakehouse.snapshots.model import (
    About,
    Counts,
    FileRef,
    Inputs,
    PartitionParts,
    Root,
    ShardRef,
    Version,
    fates,
)
from lakehouse.snapshots.schema import LABELS, RECORDS, TAXA
from lakehouse.snapshots.tables import rows

_IDENTITY_COLUMNS = ("photo_id", "sha256", "label_id", "label", "license", "split")


@dataclass(frozen=True, slots=True)
class SnapshotBuild:
    """What a build ended in: the version, and whether it is new (`created` false: nothing changed since)."""

    version: Version
    root: Root
    created: bool


@dataclass(slots=True)
class _Tally:
    """What is counted while the partitions pass by."""

    accounting: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    labels: set[int] = field(default_factory=set)
    shards: set[str] = field(default_factory=set)
    observations: int = 0
    photos: int = 0
    bytes: int = 0


def build_snapshot(
    lake: Lake,
    campaign: Campaign,
    source_name: str,
    reference_url: str,
    connection: duckdb.DuckDBPyConnection,
) -> SnapshotBuild:
    """Build the campaign's next version from its plan, selections and the ledger.

    Raises
    ------
    GateError
        More of the selected photos failed than the campaign allows.
    LakeError
        A partition was not selected for the plan's release, a selected photo was never tried, nothing at all
        is stored, or another run published the same version number first.
    """
    plan = load_plan(lake, campaign.name)
    parent = refs.latest(lake, campaign.name)
    parent_root = refs.read_root(lake, parent.snapshot_id) if parent else None
    tally = _Tally()
    partitions: list[PartitionParts] = []
    with task("snapshot", len(plan.partitions), "partition") as progress:
        for partition in plan.partitions:
            parts = _write_partition(lake, campaign, plan, partition.key, source_name, tally)
            if parts:
                partitions.append(parts)
            progress.advance()
    _check_gate(campaign, tally.accounting)
    if not tally.photos:
        raise LakeError(_nothing_stored(campaign, tally.accounting))
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
        partitions=tuple(partitions),
        taxa=_write_taxa(lake, source_name, plan.release, tally.labels, campaign.label),
        inputs=Inputs(
            source=source_name,
            reference_url=reference_url,
            release=plan.release,
            tables={
                table.name: table.sha256 for table in load_raw_release(lake, source_name, plan.release).tables
            },
        ),
    )
    basis = _basis(lake, campaign, plan)
    if parent and parent_root and _same_data(root, parent_root):
        lake.put(_basis_key(campaign.name), basis.encode())
        return SnapshotBuild(parent, parent_root, created=False)
    root = root.model_copy(update={"content_id": content_id(connection, lake, root)})
    data = canonical_json(root)
    snapshot_id = sha256_hex(data)
    lake.put(refs.root_key(snapshot_id), data)
    version = Version(
        campaign=campaign.name,
        version=parent.version + 1 if parent else 1,
        snapshot_id=snapshot_id,
        parent=parent.snapshot_id if parent else None,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        changes=count_changes(connection, lake, parent_root, root),
        accounting=dict(tally.accounting),
        about=About(title=campaign.title, description=campaign.description, creators=campaign.creators),
    )
    refs.create_version(lake, version)
    lake.put(_basis_key(campaign.name), basis.encode())
    return SnapshotBuild(version, root, created=True)


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
    digest = hashlib.sha256(canonical_json({"parameters": root.parameters, "split_salt": root.split_salt}))
    for batch in rows(connection, lake, root, _IDENTITY_COLUMNS):
        lines = pl.DataFrame(batch).select(pl.concat_str(pl.all(), separator="\t") + "\n").to_series()
        digest.update(lines.str.join("").item().encode())
    return digest.hexdigest()


def _write_partition(
    lake: Lake, campaign: Campaign, plan: Plan, key: str, source_name: str, tally: _Tally
) -> PartitionParts | None:
    """Write the parts of one partition and count it; None if none of its photos is stored."""
    report = load_selection_report(lake, campaign.name, key)
    if report is None or report.plan_digest != plan.digest:
        raise LakeError(
            f"partition {key} of {campaign.name!r} was not selected for release {plan.release}; "
            f"materialize its selection and shards first (lakehouse build does)"
        )
    selection = lake.read_table(selection_key(campaign.name, key))
    frame = pl.DataFrame({"row": range(len(selection)), "photo_id": selection["photo_id"].to_numpy()})
    label_ids = pl.Series("label_id", selection["label_id"].to_numpy())
    outcomes = Ledger(lake).outcomes(source_name, campaign.image.slug, frame["photo_id"])
    found = frame.with_columns(label_ids).join(outcomes, on="photo_id", how="left", maintain_order="left")
    untried = found.filter(pl.col("outcome").is_null()).height
    if untried:
        raise LakeError(
            f"{untried} photos of partition {key} of {campaign.name!r} were never tried; "
            "materialize its shards first (lakehouse build does)"
        )
    tally.accounting.update(considered=report.considered, selected=report.selected)
    tally.accounting.update({f"excluded.{reason}": count for reason, count in report.excluded.items()})
    tally.accounting.update(dict(found["outcome"].value_counts().iter_rows()))
    stored = found.filter(pl.col("outcome") == "stored")
    kept = stored.filter(pl.len().over("label_id") >= campaign.per_label.min)
    if kept.height < stored.height:
        tally.accounting["dropped.per_label_min"] += stored.height - kept.height
    if kept.is_empty():
        return None
    table = selection.take(pa.array(kept["row"]))
    table = table.append_column("shard", kept["shard"].to_arrow())
    tally.photos += len(table)
    tally.bytes += int(kept["size"].sum())
    tally.observations += pc.count_distinct(table["observation_uuid"].combine_chunks().storage).as_py()
    tally.labels.update(kept["label_id"].unique().to_list())
    tally.shards.update(kept["shard"].unique().to_list())
    for column, counter in (("split", tally.splits), ("license", tally.licenses)):
        counter.update(dict(pl.Series(column, table[column].cast(pa.string())).value_counts().iter_rows()))
    return PartitionParts(
        partition=key,
        labels=_store(lake, _conform(table, LABELS)),
        records=_store(lake, _conform(table, RECORDS)),
    )


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


def _write_taxa(lake: Lake, source_name: str, release: str, labels: Iterable[int], rank: str) -> FileRef:
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
    return _store(lake, _conform(chosen.to_arrow(), TAXA))


def _shard_refs(
    lake: Lake, rendition: str, digests: Iterable[str], parent: Root | None
) -> Iterable[ShardRef]:
    """A reference for each shard, taken over from the parent where it is there (an index is hashed once)."""
    known = {shard.tar.sha256: shard for shard in parent.shards} if parent else {}
    for digest in sorted(digests):
        if digest in known:
            yield known[digest]
            continue
        tar, index = shard_key(rendition, digest), index_key(rendition, digest)
        size, data = lake.size(tar), lake.get(index)
        if size is None:
            raise LakeError(f"{lake.uri(tar)} is missing although the ledger names it; run lakehouse verify")
        rows = pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows
        yield ShardRef(
            tar=FileRef(key=tar, sha256=digest, size=size, rows=rows),
            index=FileRef(key=index, sha256=sha256_hex(data), size=len(data), rows=rows),
        )


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[name].combine_chunks()
        if pa.types.is_dictionary(table[name].type)
        else table[name].cast(schema.field(name).type)
        for name in schema.names
    ]
    # A dictionary lists just the values that occur, in order, so that equal columns are equal bytes.
    columns = [
        column.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(field.type) else column
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, names=schema.names).cast(schema)


def _store(lake: Lake, table: pa.Table) -> FileRef:
    """Write a part under its digest, unless it is there already."""
    with lake.scratch() as folder:
        path = Path(folder) / "part.parquet"
        codes = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
        numbers = [
            name for name in ("photo_id", "label_id") if name in table.schema.names and name not in codes
        ]
        pq.write_table(
            table,
            path,
            row_group_size=ROW_GROUP,
            compression="zstd",
            compression_level=1,
            store_schema=False,
            use_dictionary=codes,
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        )
        digest, size = sha256_of_file(path), path.stat().st_size
        key = f"snapshots/parts/{digest}.parquet"
        if lake.size(key) != size:
            lake.publish(path, key)
        return FileRef(key=key, sha256=digest, size=size, rows=len(table))


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
