"""Names of snapshots: `<campaign>@v<N>`, `<campaign>@latest`, or the first digits of a snapshot id.

A version record `refs/<campaign>/v<N>` is created once; two publishers of one number cannot both win.
`latest` is the highest version there is, so no second name can disagree with it. A record is replaced only
when photos are taken back: the version then names the snapshot's successor, and the old id answers with a
tombstone.
"""

from __future__ import annotations

import json
import re

from lakehouse.errors import AlreadyExistsError, LakeError, NotFoundError, UsageError, WithdrawnError
from lakehouse.lake import Lake
from lakehouse.snapshots.identity import canonical_json, sha256_hex
from lakehouse.snapshots.model import Root, Version, Withdrawal

_ID = re.compile(r"[0-9a-f]{8,64}")
_VERSION = re.compile(r"^v([1-9]\d*)$")


def versions(lake: Lake, campaign: str) -> list[Version]:
    """Every version of a campaign, oldest first; empty if there is none."""
    found = [
        (int(match[1]), key)
        for key in lake.list(f"refs/{campaign}")
        if (match := _VERSION.match(key.split("/")[-1]))
    ]
    return [_read_version(lake, key) for _, key in sorted(found)]


def latest(lake: Lake, campaign: str) -> Version | None:
    """The newest version of a campaign, None if there is none."""
    found = [
        int(match[1])
        for key in lake.list(f"refs/{campaign}")
        if (match := _VERSION.match(key.split("/")[-1]))
    ]
    return _read_version(lake, f"refs/{campaign}/v{max(found)}") if found else None


def create_version(lake: Lake, version: Version) -> None:
    """Publish a version record; raises LakeError if another publisher took the number first."""
    try:
        lake.create(version_key(version), _encoded(version))
    except AlreadyExistsError:
        raise LakeError(
            f"another run published {version.ref} while this one built it; build again to go on from there"
        ) from None


def replace_version(lake: Lake, version: Version) -> None:
    """Let a version's record name another snapshot; only a removal does this."""
    lake.put(version_key(version), _encoded(version))


def version_key(version: Version) -> str:
    """Where a version's record is stored."""
    return f"refs/{version.campaign}/v{version.version}"


def campaigns(lake: Lake) -> list[str]:
    """The campaigns that have a version."""
    return [name for name in lake.folders("refs") if versions(lake, name)]


def withdrawal_key(snapshot_id: str) -> str:
    """Where the tombstone of a withdrawn snapshot is stored."""
    return f"removals/snapshots/{snapshot_id}.json"


def withdrawals(lake: Lake, beginning: str = "") -> list[Withdrawal]:
    """The tombstones of the snapshots whose ids begin so; each names the snapshot that is there now."""
    found = {key.rsplit("/", 1)[-1].removesuffix(".json"): key for key in lake.list("removals/snapshots")}
    records = {name: _read_withdrawal(lake, key) for name, key in found.items()}
    last = []
    for name, record in records.items():
        while record.successor in records:
            record = record.model_copy(update={"successor": records[record.successor].successor})
        if name.startswith(beginning):
            last.append(record)
    return last


def withdrawal(lake: Lake, ref: str) -> Withdrawal | None:
    """The tombstone that a snapshot id (or its first digits) leads to; None if it was not withdrawn."""
    found = withdrawals(lake, ref) if _ID.fullmatch(ref) else []
    return found[0] if len(found) == 1 else None


def _read_withdrawal(lake: Lake, key: str) -> Withdrawal:
    try:
        return Withdrawal.model_validate_json(lake.get(key))
    except ValueError:
        raise LakeError(
            f"{lake.uri(key)} is damaged: it is not a tombstone; restore it from a copy"
        ) from None


def resolve(lake: Lake, ref: str) -> Version:
    """The version that a REF names; raises UsageError for what is no REF and NotFoundError for what is not
    there."""
    campaign, at, name = ref.partition("@")
    if at:
        if not campaign or (name != "latest" and not _VERSION.match(name)):
            raise UsageError(f"{ref!r} is not a reference; write name@latest, name@v3 or a snapshot id")
        found = versions(lake, campaign)
        for version in found:
            if name == f"v{version.version}" or (name == "latest" and version is found[-1]):
                return version
        have = ", ".join(f"v{version.version}" for version in found) or "no version at all"
        raise NotFoundError(f"{ref} is not in {lake.root}; {campaign!r} has {have}")
    if _ID.fullmatch(ref):
        matches = [
            version
            for folder in lake.folders("refs")
            for version in versions(lake, folder)
            if version.snapshot_id.startswith(ref)
        ]
        if len({version.snapshot_id for version in matches}) == 1:
            return matches[0]
        if matches:
            raise UsageError(f"{ref} begins the ids of {len(matches)} snapshots; give more digits")
        if gone := withdrawal(lake, ref):
            raise WithdrawnError(gone.sentence)
        raise NotFoundError(f"no snapshot in {lake.root} has an id beginning with {ref}")
    raise UsageError(f"{ref!r} is not a reference; write name@latest, name@v3 or a snapshot id")


def root_key(snapshot_id: str) -> str:
    """Where a snapshot's root is stored."""
    return f"snapshots/{snapshot_id}.json"


def read_root(lake: Lake, snapshot_id: str) -> Root:
    """The root of a snapshot; raises NotFoundError, or LakeError if its bytes do not match its name."""
    data = lake.get(root_key(snapshot_id))
    if sha256_hex(data) != snapshot_id:
        raise LakeError(
            f"{lake.uri(root_key(snapshot_id))} is damaged: its sha256 is not its name; restore a copy"
        )
    try:
        return Root.model_validate_json(data)
    except ValueError:
        raise LakeError(
            f"{lake.uri(root_key(snapshot_id))} has a format that this version cannot read; update lakehouse"
        ) from None


def _encoded(version: Version) -> bytes:
    """The record with the digest of its canonical JSON, so that damage to it shows."""
    return canonical_json({**version.model_dump(mode="json"), "digest": sha256_hex(canonical_json(version))})


def _read_version(lake: Lake, key: str) -> Version:
    try:
        values = json.loads(lake.get(key))
        digest = values.pop("digest")
        version = Version.model_validate(values)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise LakeError(
            f"{lake.uri(key)} is damaged: it is not a version record; restore it from a copy"
        ) from None
    if sha256_hex(canonical_json(version)) != digest:
        raise LakeError(
            f"{lake.uri(key)} is damaged: it does not have the digest it says; restore it from a copy"
        )
    return version
