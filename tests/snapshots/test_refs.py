"""References: a version, the newest one or the first digits of an id lead to one snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lakehouse
from lakehouse.errors import LakeError, NotFoundError, UsageError
from lakehouse.lake import Lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.identity import canonical_json, sha256_hex


@pytest.mark.parametrize(("ref", "number"), [("demo@v1", 1), ("demo@v2", 2), ("demo@latest", 2)])
def test_a_reference_names_a_version(demo: Any, ref: str, number: int) -> None:
    assert refs.resolve(demo.lake, ref).version == number


def test_the_first_digits_of_an_id_are_enough(demo: Any) -> None:
    snapshot_id = demo.first.version.snapshot_id
    assert refs.resolve(demo.lake, snapshot_id[:8]) == demo.first.version
    assert refs.resolve(demo.lake, snapshot_id) == demo.first.version


def test_digits_that_begin_two_ids_are_too_few(harmed_demo: Any) -> None:
    twin = harmed_demo.first.version.snapshot_id[:8] + "0" * 56
    refs.create_version(
        harmed_demo.lake, harmed_demo.first.version.model_copy(update={"version": 3, "snapshot_id": twin})
    )
    with pytest.raises(UsageError, match="begins the ids of 2 snapshots; give more digits"):
        refs.resolve(harmed_demo.lake, twin[:8])


@pytest.mark.parametrize(
    "ref",
    ["demo", "demo@", "demo@3", "demo@v0", "demo@v01", "demo@V1", "demo@newest", "@v1", "", "0123456", "xyz"],
)
def test_what_is_no_reference_is_wrong_usage(demo: Any, ref: str) -> None:
    with pytest.raises(UsageError, match="is not a reference; write name@latest, name@v3 or a snapshot id"):
        refs.resolve(demo.lake, ref)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("demo@v3", "'demo' has v1, v2"),
        ("frogs@v1", "'frogs' has no version at all"),
        ("frogs@latest", "'frogs' has no version at all"),
        ("0" * 64, "no snapshot in .* has an id beginning with 0000"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(demo: Any, ref: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        refs.resolve(demo.lake, ref)


def test_versions_are_in_the_order_of_their_numbers(tmp_path: Path, demo: Any) -> None:
    lake = Lake(str(tmp_path / "lake"), Settings())
    for number in (10, 9, 2):
        refs.create_version(lake, demo.first.version.model_copy(update={"version": number}))
    assert [version.version for version in refs.versions(lake, "demo")] == [2, 9, 10]
    newest = refs.latest(lake, "demo")
    assert newest is not None
    assert newest.version == 10


def test_a_campaign_without_versions_has_no_newest_one(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), Settings())
    assert refs.versions(lake, "demo") == []
    assert refs.latest(lake, "demo") is None


def test_a_version_is_published_once(harmed_demo: Any) -> None:
    again = harmed_demo.second.version.model_copy(update={"created_at": "2030-01-01T00:00:00+00:00"})
    with pytest.raises(LakeError, match="another run published demo@v2 while this one built it"):
        refs.create_version(harmed_demo.lake, again)
    assert refs.resolve(harmed_demo.lake, "demo@v2") == harmed_demo.second.version


def test_a_damaged_version_record_is_named(harmed_demo: Any) -> None:
    harmed_demo.lake.put("refs/demo/v2", b'{"campaign": "demo"')
    with pytest.raises(LakeError, match="refs/demo/v2 is damaged: it is not a version record"):
        refs.resolve(harmed_demo.lake, "demo@v2")


# --- roots


def test_a_root_is_canonical_json_and_its_digest_is_its_name(demo: Any) -> None:
    snapshot_id = demo.second.version.snapshot_id
    data = demo.lake.get(refs.root_key(snapshot_id))
    assert data == canonical_json(refs.read_root(demo.lake, snapshot_id))
    assert sha256_hex(data) == snapshot_id


def test_a_damaged_root_is_refused(harmed_demo: Any) -> None:
    snapshot_id = harmed_demo.second.version.snapshot_id
    data = bytearray(harmed_demo.lake.get(refs.root_key(snapshot_id)))
    data[len(data) // 2] ^= 1
    harmed_demo.lake.put(refs.root_key(snapshot_id), bytes(data))
    with pytest.raises(LakeError, match=f"{snapshot_id}.json is damaged: its sha256 is not its name"):
        refs.read_root(harmed_demo.lake, snapshot_id)


def test_a_root_that_is_gone_is_not_found(harmed_demo: Any) -> None:
    harmed_demo.lake.delete(refs.root_key(harmed_demo.second.version.snapshot_id))
    with pytest.raises(NotFoundError):
        lakehouse.open(str(harmed_demo.path)).snapshot("demo@v2")


def test_canonical_json_depends_on_values_alone() -> None:
    assert (
        canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()
    )


def test_a_version_knows_the_snapshot_before_it(demo: Any) -> None:
    assert demo.first.version.parent is None
    assert demo.second.version.parent == demo.first.version.snapshot_id
