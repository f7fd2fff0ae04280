"""Verification: a byte that changed is found in whatever file it is, and the file is named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from lakehouse.errors import LakeError, UsageError
from lakehouse.lake import Lake
from lakehouse.snapshots import refs
from lakehouse.snapshots.build import SnapshotBuild
from lakehouse.snapshots.identity import canonical_json, sha256_hex
from lakehouse.snapshots.read import catalog_folder
from lakehouse.snapshots.seal import NAME, seal
from lakehouse.snapshots.verify import verify

REF = "frogs@v2"


@pytest.fixture
def described(lake: Lake, two: SnapshotBuild) -> Lake:
    """A lake whose second version has every kind of file: parts, a list of removed and of dropped photos,
    shards, and a sealed catalogue folder."""
    folder = catalog_folder(two.version)
    lake.put(f"{folder}/README.md", b"# Frogs\n")
    lake.put(f"{folder}/figures/strip.jpg", b"\xff\xd8" + bytes(100))
    seal(lake, folder)
    return lake


def every_file(lake: Lake) -> list[str]:
    """All that frogs@v2 consists of, record and root included."""
    version = refs.resolve(lake, REF)
    root = refs.read_root(lake, version.snapshot_id)
    assert root.dropped and version.removed
    named = [file.key for file in root.files()]
    return [
        refs.version_key(version),
        refs.root_key(version.snapshot_id),
        *named,
        version.removed.key,
        *lake.list(catalog_folder(version)),
    ]


def told(lake: Lake) -> str:
    """What verification says, in whichever way."""
    try:
        return "\n".join(verify(lake, REF).problems)
    except LakeError as error:
        return str(error)


def test_a_whole_version_has_no_problem(described: Lake) -> None:
    found = verify(described, REF)
    assert found.problems == ()
    assert found.whole
    files = every_file(described)
    assert (
        found.files == found.files_total == len(files) - 3
    )  # record and root are read on the way; so is NAME
    assert found.bytes == sum(described.size(key) or 0 for key in files[2:] if not key.endswith(NAME))


def test_a_flipped_bit_is_found_and_its_file_named_whichever_file_it_is_in(described: Lake) -> None:
    chance = random.Random(0)
    for key in every_file(described):
        whole = described.get(key)
        for place in {0, len(whole) // 2, len(whole) - 1, chance.randrange(len(whole))}:
            harmed = bytearray(whole)
            harmed[place] ^= 1 << chance.randrange(8)
            described.put(key, bytes(harmed))
            assert described.uri(key) in told(described), f"{key} at {place}"
        described.put(key, whole)
    assert told(described) == ""


def test_every_single_bit_of_a_record_counts(described: Lake) -> None:
    key = refs.version_key(refs.resolve(described, REF))
    whole = described.get(key)
    for place in range(0, len(whole), 7):
        harmed = bytearray(whole)
        harmed[place] ^= 1 << (place % 8)
        described.put(key, bytes(harmed))
        assert described.uri(key) in told(described), place


def test_a_file_cut_short_or_gone_is_found_and_named(described: Lake) -> None:
    for key in every_file(described)[2:]:
        whole = described.get(key)
        described.put(key, whole[:-1])
        assert described.uri(key) in told(described)
        described.delete(key)
        if not key.endswith(NAME):
            assert told(described) == f"{described.uri(key)} is missing"
        described.put(key, whole)


def test_every_damaged_file_is_told(described: Lake) -> None:
    root = refs.read_root(described, refs.resolve(described, REF).snapshot_id)
    for shard in root.shards:
        described.delete(shard.tar.key)
    assert len(verify(described, REF).problems) == len(root.shards) > 1


# --- counts


def forged(lake: Lake, **changes: object) -> None:
    """Let frogs@v2 name a root that says something else, as a faulty build would."""
    version = refs.resolve(lake, REF)
    root = refs.read_root(lake, version.snapshot_id).model_copy(update=changes)
    data = canonical_json(root)
    lake.put(refs.root_key(sha256_hex(data)), data)
    refs.replace_version(lake, version.model_copy(update={"snapshot_id": sha256_hex(data)}))


@pytest.mark.parametrize(
    ("count", "name"),
    [("photos", "rows"), ("labels", "labels"), ("observations", "observations"), ("bytes", "bytes")],
)
def test_a_count_that_does_not_hold_is_told(lake: Lake, two: SnapshotBuild, count: str, name: str) -> None:
    right = getattr(two.root.counts, count)
    forged(lake, counts=two.root.counts.model_copy(update={count: right + 1}))
    assert f"the manifest has {right:,} {name} instead of {right + 1:,}" in verify(lake, REF).problems


def test_rows_that_are_not_those_of_the_content_id_are_told(lake: Lake, two: SnapshotBuild) -> None:
    forged(lake, content_id="0" * 64)
    assert verify(lake, REF).problems == ("the rows do not add up to the content_id in the root",)


# --- samples


def test_a_sample_reads_a_share_and_one_of_each_kind(described: Lake) -> None:
    found = verify(described, REF, sample=0.01, seed=1)
    assert found.problems == ()
    assert found.files < found.files_total
    assert found.bytes < verify(described, REF).bytes


def test_a_sample_still_misses_no_file_that_is_gone(described: Lake) -> None:
    for key in every_file(described)[2:]:
        if not key.endswith(NAME):
            whole = described.get(key)
            described.delete(key)
            assert f"{described.uri(key)} is missing" in verify(described, REF, sample=0.01).problems
            described.put(key, whole)


def test_other_seeds_take_other_files_and_in_the_end_all(described: Lake) -> None:
    tar = refs.read_root(described, refs.resolve(described, REF).snapshot_id).shards[0].tar.key
    data = bytearray(described.get(tar))
    data[-1] ^= 1
    described.put(tar, bytes(data))
    found = [not verify(described, REF, sample=0.01, seed=seed).whole for seed in range(40)]
    assert any(found) and not all(found)
    assert found[3] == (not verify(described, REF, sample=0.01, seed=3).whole)


@pytest.mark.parametrize("sample", [0, -1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(described: Lake, sample: float) -> None:
    with pytest.raises(UsageError, match="is no share"):
        verify(described, REF, sample=sample)


def test_the_list_of_checksums_is_what_sha256sum_reads(
    described: Lake, two: SnapshotBuild, run: Callable[..., str]
) -> None:
    folder = described.uri(catalog_folder(two.version))
    assert "README.md: OK" in run("sha256sum", "--strict", "-c", NAME, cwd=folder)


def test_a_record_has_its_own_digest(lake: Lake, two: SnapshotBuild) -> None:
    record = json.loads(lake.get(refs.version_key(two.version)))
    digest = record.pop("digest")
    assert digest == sha256_hex(canonical_json(record))
