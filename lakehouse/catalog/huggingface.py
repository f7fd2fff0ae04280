"""A version on the Hugging Face Hub: laid out for its loaders, uploaded so that it can be resumed, and taken
back.

Two repositories, because the Hub's loader (`datasets`) reads one file format per repository
(huggingface/datasets#7101): `<repo>` has the photographs as WebDataset archives with everything an export
has, `<repo>-metadata` has the manifest as Parquet.

Archives are written, uploaded and deleted here one after the other, so the disk holds one at a time; bytes
that the Hub has already are not sent again. Nobody sees any of it before the one commit at the end, which
is refused if somebody else committed meanwhile. Each version is tagged `v<N>`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import yaml

from lakehouse.campaign import HuggingFaceTarget
from lakehouse.catalog import hub_client
from lakehouse.catalog.bundle import fill
from lakehouse.catalog.card_front import size_category
from lakehouse.catalog.files import DatasetFile
from lakehouse.catalog.hub_client import Hub, HubRefusedError
from lakehouse.catalog.hub_features import front_of
from lakehouse.catalog.markdown import linked, text
from lakehouse.errors import CatalogError
from lakehouse.lake import ROW_GROUP
from lakehouse.progress import task
from lakehouse.settings import Settings
from lakehouse.snapshots.export import SHARD_BYTES, SHARD_PHOTOS, Format
from lakehouse.snapshots.read import Snapshot

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

# Source: the Hub's storage limits: fewer than 10,000 entries in a folder and 100,000 files in a repository;
# a file of at most 50 GB, less being wiser.
MAX_FOLDER, MAX_FILES, MAX_BYTES = 9_999, 99_999, 20_000_000_000
RECORD = "lakehouse.json"  # says on the Hub which snapshot the files are, and that they are ours


@dataclass(frozen=True, slots=True)
class HubEntry:
    """A version on the Hub: pages of its two repositories, its tag, files and bytes that were sent now, and
    whether anything changed."""

    repo: str
    page: str
    metadata_page: str
    tag: str
    uploaded: int
    bytes: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was taken out of a repository for good: tags and large files (number and bytes)."""

    repo: str
    tags: tuple[str, ...]
    files: int
    bytes: int


# What no client of the Hub can delete.
KEPT = (
    "The Hub keeps for a time what its caches and its storage hold of deleted files, and until it converts "
    "the dataset again a Parquet copy under refs/convert/parquet; copies and forks that others made are "
    "theirs. Ask the Hub's support to purge them where the law requires it."
)


def metadata_repo(repo: str) -> str:
    """The companion repository that has the manifest."""
    return f"{repo}-metadata"


def publish(snapshot: Snapshot, target: HuggingFaceTarget, settings: Settings) -> HubEntry:
    """Bring a campaign's repositories on the Hub up to date with a snapshot.

    Parameters
    ----------
    snapshot
        The version to publish.
    target
        The repository `organisation/name`, and whether it is private.
    settings
        The Hub's address (HF_ENDPOINT) and token (HF_TOKEN).

    Raises
    ------
    UsageError
        There is no token.
    CatalogError
        The Hub cannot be reached or refuses, the repository is someone else's, or the dataset breaks the
        Hub's limits. What was committed before stays as it was.
    """
    counts = snapshot.root.counts
    fewest = max(
        sum(-(-photos // SHARD_PHOTOS) for photos in counts.splits.values()),
        counts.bytes // (2 * SHARD_BYTES),  # an archive is full when it is over the limit
    )
    check_limits({f"data/{number}": 0 for number in range(fewest)})
    data = _Repository(Hub(target.repo, settings), snapshot, target)
    metadata = _Repository(Hub(metadata_repo(target.repo), settings), snapshot, target)
    repositories = (data, metadata)
    for repository in repositories:
        repository.open()
    if not all(repository.is_current() for repository in repositories):
        with snapshot.lake.scratch() as folder:
            dataset, companion = folder / "dataset", folder / "metadata"
            dataset.mkdir()
            with task("upload", snapshot.root.counts.bytes, "byte") as progress:

                def send(file: DatasetFile) -> None:
                    data.send(dataset, file.name, file.sha256)
                    progress.advance(file.size, file.name)

                fill(snapshot, dataset, Format.webdataset, send)
            lay_out_metadata(dataset, companion, snapshot, target.repo)
            metadata.commit(companion)
            data.commit(dataset)
    for repository in repositories:
        repository.finish()
    sent = [size for repository in repositories for size in repository.sent.values()]
    return HubEntry(
        repo=target.repo,
        page=data.hub.page,
        metadata_page=metadata.hub.page,
        tag=data.tag,
        uploaded=len(sent),
        bytes=sum(sent),
        changed=any(repository.changed for repository in repositories),
    )


def forget_earlier(snapshot: Snapshot, target: HuggingFaceTarget, settings: Settings) -> list[Forgotten]:
    """Delete for good whatever the campaign's repositories hold of versions before `snapshot`: their tags,
    the large files that `snapshot` has no part in, and the history.

    Raises
    ------
    UsageError
        There is no token.
    CatalogError
        The Hub does not show `snapshot` (publish it first), cannot be reached, or refuses.
    """
    forgotten = []
    for name in (target.repo, metadata_repo(target.repo)):
        repository = _Repository(Hub(name, settings), snapshot, target)
        hub = repository.hub
        repository.look()
        if not repository.is_current():
            raise CatalogError(
                f"{hub.page} does not show {snapshot.version.ref}; publish it first: what it shows would be "
                "deleted with what came before"
            )
        refs = hub.on_repo("list_repo_refs")
        tags = tuple(tag.name for tag in refs.tags if tag.name != repository.tag)
        for tag in tags:
            hub.on_repo("delete_tag", tag=tag)
        kept = {file.sha256 for file in repository.there.values()}
        # Which of its two ids is the digest is not documented alike everywhere, so either one saves a file.
        gone = [file for file in hub.list_all("list_lfs_files") if not {file.oid, file.file_oid} & kept]
        if gone:
            hub.on_repo("permanently_delete_lfs_files", lfs_files=gone, rewrite_history=True)
        # The version's own tag would keep the history that is squashed.
        hub.on_repo("delete_tag", tag=repository.tag)
        hub.on_repo("super_squash_history", branch="main", commit_message=f"{snapshot.version.ref} alone")
        hub.on_repo("create_tag", tag=repository.tag, revision="main")
        forgotten.append(Forgotten(name, tags, len(gone), sum(file.size for file in gone)))
    return forgotten


def check_limits(sizes: Mapping[str, int]) -> None:
    """Refuse what the Hub would: too many files in a folder or in all, or one that is too large.

    `sizes` are bytes by name; raises CatalogError.
    """
    for name, size in sizes.items():
        if size > MAX_BYTES:
            raise CatalogError(
                f"{name} has {size:,} bytes; the Hub should be given files of at most {MAX_BYTES:,}"
            )
    if len(sizes) > MAX_FILES:
        raise CatalogError(
            f"the dataset has {len(sizes):,} files; the Hub takes {MAX_FILES:,} in a repository: publish "
            "smaller campaigns"
        )
    folders = Counter(str(PurePosixPath(name).parent) for name in sizes)
    for folder, count in folders.items():
        if count > MAX_FOLDER:
            raise CatalogError(
                f"the folder {folder!r} would have {count:,} files; the Hub takes {MAX_FOLDER:,} in one: "
                "publish smaller campaigns"
            )


def lay_out_metadata(dataset: Path, folder: Path, snapshot: Snapshot, repo: str) -> None:
    """Make the companion of the export in `dataset` in the new folder `folder`: the manifest as one Parquet
    file per split, and a card."""
    (folder / "data").mkdir(parents=True)
    paths: dict[str, str] = {}
    for split in snapshot.root.counts.splits:
        paths[split] = f"data/{split}-00000-of-00001.parquet"
        source = pq.ParquetFile(dataset / "manifest.parquet")
        # Cut by content, so that of a table that changed little, little is uploaded.
        with pq.ParquetWriter(
            folder / paths[split],
            source.schema_arrow,
            compression="zstd",
            store_schema=False,
            use_content_defined_chunking=True,
        ) as writer:
            for batch in source.iter_batches(ROW_GROUP):
                mine = pl.DataFrame(batch).filter(pl.col("split") == split)
                if mine.height:
                    table = mine.to_arrow(compat_level=pl.CompatLevel.oldest())
                    writer.write_table(table.cast(source.schema_arrow), row_group_size=ROW_GROUP)
    front, _ = front_of((dataset / "README.md").read_text(encoding="utf-8"))
    kept: dict[str, Any] = {
        name: front[name] for name in ("license", "language", "description") if name in front
    }
    values: dict[str, Any] = {
        **kept,
        "pretty_name": f"{front['pretty_name']} (metadata)",
        "tags": ["biology", "tabular", "metadata"],
        "size_categories": [size_category(snapshot.root.counts.photos)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
            }
        ],
    }
    title = text(snapshot.version.about.title)
    images = linked(repo, f"https://huggingface.co/datasets/{repo}")
    card = (
        f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1_000)}---\n\n"
        f"# {title}: metadata\n\nOne row per photograph of {images}, {snapshot.version.ref}: label, "
        "classification, licence, attribution, place, date, digest, and the archive that holds it. The card "
        "there tells the rest.\n"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{_sha256(folder / name)}  {name}\n" for name in names)
    (folder / "checksums.txt").write_text(sums, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the Hub lists it: `sha256` of a large file, else None; `oid` is git's."""

    size: int
    oid: str
    sha256: str | None


class _Repository:
    """One repository being brought up to date with a snapshot."""

    def __init__(self, hub: Hub, snapshot: Snapshot, target: HuggingFaceTarget) -> None:
        self.hub, self.snapshot, self.private = hub, snapshot, target.private
        self.tag = f"v{snapshot.version.version}"
        self.there: dict[str, _Remote] = {}
        self.head: str | None = None
        self.listed: dict[str, str] = {}
        self.record: dict[str, Any] = {}
        self.is_private = True
        self.sent: dict[str, int] = {}
        self.changed = False
        self._additions: dict[str, CommitOperationAdd] = {}
        self._kept: set[str] = set()

    def open(self) -> None:
        """Make the repository if it is not there, privately until it is filled, and read what it has."""
        try:
            self.look()
        except HubRefusedError as error:
            if error.status != 404:
                raise
            self.hub.on_repo("create_repo", private=True, exist_ok=True)
            self.changed = True
            self.look()
        mine = self.record.get("campaign") == self.snapshot.version.campaign
        if not mine and set(self.there) - {".gitattributes"}:
            raise CatalogError(
                f"{self.hub.page} holds files that were not published from this campaign; name another "
                "repository in publish.huggingface.repo, or empty that one"
            )
        if self.private and not self.is_private:
            self.hub.on_repo("update_repo_settings", private=True)
            self.is_private, self.changed = True, True

    def look(self) -> None:
        """Read the head of the main branch, its files, and what we said of them."""
        info = self.hub.on_repo("repo_info")
        self.head, self.is_private = info.sha, bool(info.private)
        tree = self.hub.list_all("list_repo_tree", recursive=True) if self.head else []
        self.there = {
            file.path: _Remote(file.size, file.blob_id, file.lfs.sha256 if file.lfs else None)
            for file in tree
            if hasattr(file, "blob_id")
        }
        self.listed = _listed(self.hub.text("checksums.txt")) if "checksums.txt" in self.there else {}
        self.record = _record(self.hub.text(RECORD)) if RECORD in self.there else {}

    def is_current(self) -> bool:
        """Whether the Hub has this snapshot, whole: its record, and every file with its digest."""
        if self.record.get("snapshot_id") != self.snapshot.version.snapshot_id or not self.listed:
            return False
        return all(self._shows(name, digest) for name, digest in self.listed.items())

    def _shows(self, name: str, digest: str) -> bool:
        remote = self.there.get(name)
        if remote is None or remote.sha256 is not None:
            return remote is not None and remote.sha256 == digest
        # The Hub lists no digest of small files that could be compared.
        return hashlib.sha256(self.hub.text(name) or b"").hexdigest() == digest

    def send(self, folder: Path, name: str, digest: str) -> None:
        """Upload one large file, unless the Hub shows it already, and delete it here."""
        from huggingface_hub import CommitOperationAdd

        path = folder / name
        remote = self.there.get(name)
        if remote is not None and remote.sha256 == digest:
            self._kept.add(name)
            path.unlink()
            return
        addition = CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
        size = path.stat().st_size
        # The Hub's storage keeps what it has by digest: after an interruption nothing is sent twice.
        self.hub.on_repo("preupload_lfs_files", additions=[addition])
        self._additions[name] = addition
        self.sent[name] = size
        if addition.path_or_fileobj == b"":  # the client lets go of what is uploaded
            path.unlink()

    def commit(self, folder: Path) -> None:
        """Make the main branch show what was sent and what is in `folder`, and nothing of ours besides."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        version = self.snapshot.version
        record = {
            "campaign": version.campaign,
            "version": version.version,
            "snapshot_id": version.snapshot_id,
            "content_id": self.snapshot.root.content_id,
        }
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        here = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        for name, path in sorted(here.items()):
            if name in self._additions or self._has(name, path):
                self._kept.add(name)
            else:
                self._additions[name] = CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
                self.sent[name] = path.stat().st_size
        wanted = {*self._additions, *self._kept}
        check_limits({name: self.sent.get(name, 0) for name in wanted})
        stale = sorted((set(self.listed) & set(self.there)) - wanted)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *self._additions.values(),
            *(CommitOperationDelete(path_in_repo=name) for name in stale),
        ]
        if not operations:
            return
        self.changed = True
        for pause in (*hub_client.PAUSES, None):
            try:
                self.hub.call(lambda api: self._commit(api, operations), patient=False)
            except CatalogError as error:
                # An answer that was lost may have been a commit, so what is there now decides.
                before = self.head
                self.look()
                if self.head != before and self.is_current():
                    return
                passing = isinstance(error, HubRefusedError) and error.is_passing
                if self.head != before or pause is None or not passing:
                    raise error from None
                time.sleep(pause)
            else:
                self.look()
                return

    def _commit(self, api: HfApi, operations: list[CommitOperationAdd | CommitOperationDelete]) -> None:
        api.create_commit(
            self.hub.repo,
            operations,
            repo_type="dataset",
            commit_message=self.snapshot.version.ref,
            commit_description=f"Content sha256:{self.snapshot.root.content_id}",
            parent_commit=self.head,
        )

    def _has(self, name: str, path: Path) -> bool:
        """Whether the Hub shows a file with these bytes already."""
        remote = self.there.get(name)
        if remote is None or remote.size != path.stat().st_size:
            return False
        if remote.sha256 is not None:
            return remote.sha256 == _sha256(path)
        data = path.read_bytes()
        # Source: git's object format; the Hub names small files by it.
        return remote.oid == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

    def finish(self) -> None:
        """Tag the version, and show the repository to everybody if it is not to be private."""
        tags = {tag.name for tag in self.hub.on_repo("list_repo_refs").tags}
        if self.tag in tags and self._tagged() != self.snapshot.version.snapshot_id:
            # Photographs were taken out of the version since: its tag must not lead to them.
            self.hub.on_repo("delete_tag", tag=self.tag)
            tags.remove(self.tag)
        if self.tag not in tags:
            self.hub.on_repo("create_tag", tag=self.tag, revision=self.head, exist_ok=True)
            self.changed = True
        if self.is_private and not self.private:
            self.hub.on_repo("update_repo_settings", private=False)
            self.changed = True

    def _tagged(self) -> str | None:
        """The snapshot that the version's tag leads to."""
        return _record(self.hub.text(RECORD, self.tag)).get("snapshot_id")


def _listed(sums: bytes | None) -> dict[str, str]:
    """Digests by name, from a `checksums.txt`."""
    lines = (sums or b"").decode("utf-8", "replace").splitlines()
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def _record(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
