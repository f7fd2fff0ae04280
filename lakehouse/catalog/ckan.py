"""A version's entry in a CKAN catalogue: made, brought up to date, compared and withdrawn.

Files are listed by their address and never uploaded. What is in CKAN is compared before anything is
written, so publishing the same version twice writes nothing. A new entry is private until its snapshot was
read and found whole. An update is a compare-and-swap on the entry as it was read, tried again when somebody
else was first, and leaves alone what others added: resources, extras and groups that are not this project's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.campaign import CkanTarget
from lakehouse.catalog.ckan_client import (
    Ckan,
    CkanBrokenError,
    CkanInvalidError,
    CkanMissingError,
    CkanRefusedError,
)
from lakehouse.catalog.ckan_entry import (
    MARK,
    OPTIONAL_EXTRAS,
    PLAIN,
    compare,
    groups,
    is_our_group,
    is_ours,
    major,
    ours,
    package,
)
from lakehouse.catalog.files import DatasetFile
from lakehouse.catalog.statistics import Statistics
from lakehouse.errors import CatalogError
from lakehouse.settings import Settings
from lakehouse.snapshots.model import Root, Version

_TRIES = 7  # at an entry that others keep changing
_UNKEPT = 3  # times that an entry may be other than written in the same respect
_PAUSE = 0.05  # seconds that the second try waits at most, and each later one twice as long as the one before


@dataclass(frozen=True, slots=True)
class CkanEntry:
    """An entry as CKAN has it.

    `page` is its address, `modified` when it last changed, `package` all of it in the form of CKAN's API;
    `changed` tells whether `publish` wrote it.
    """

    id: str
    name: str
    page: str
    modified: str
    package: Mapping[str, Any] = field(repr=False)
    changed: bool = False


def publish(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    target: CkanTarget,
    settings: Settings,
    verify: Callable[[], Sequence[str]] = tuple,
) -> CkanEntry:
    """Make the entry of a campaign, or bring it up to date with a version.

    Parameters
    ----------
    version, root, statistics
        The version, its snapshot, and `summarize(manifest)` of it.
    files
        The files to list, each with an address that others can read (see `files.resolved`).
    target
        The organisation that owns the entry; it is created if it is missing and the token may.
    settings
        CKAN's address and token.
    verify
        Gives what is wrong with the snapshot. It is asked only if there is something to write: a new entry is
        private until then, and an entry that is there stays as it is until then.

    The entry is put into those of its groups that the token may use; a missing one is created if it may.

    Raises
    ------
    CatalogError
        The snapshot is not whole; CKAN cannot be reached or refuses; the name is someone else's; the entry
        shows a newer version; or a file has no public address. The entry is then as it was, or as CKAN's
        answer said, and a new one is private.
    """
    wanted = package(version, root, statistics, files, target)
    with Ckan(settings, writing=True) as ckan:
        _owner(ckan, target)
        found = _read(ckan, version.campaign)
        if found is not None:
            _refuse(ckan, found, version, target)
            if not compare(found, wanted):
                return _entry(ckan, found)
        wanted["groups"] = _usable_groups(ckan, groups(statistics))
        if found is None:
            # Another publisher's, if one was first.
            found = _create(ckan, {**wanted, "private": True}, target)
            _refuse(ckan, found, version, target)
        elif not compare(found, wanted):
            return _entry(ckan, found)
        if problems := verify():
            state = "private" if found["private"] else "as it was"
            raise CatalogError(
                f"{version.ref} is not whole ({problems[0]}), so {ckan.page(version.campaign)} is left "
                f"{state}; "
                f"run lakehouse verify {version.ref}, repair the lake and publish again"
            )
        return _entry(ckan, _settle(ckan, wanted, version, target), changed=True)


def _settle(ckan: Ckan, wanted: Mapping[str, Any], version: Version, target: CkanTarget) -> Mapping[str, Any]:
    """Make an entry that is there as it should be, whoever else is at it."""
    unkept: list[str] = []
    for tried in range(_TRIES):
        if tried:
            time.sleep(random.uniform(0, _PAUSE * 2 ** (tried - 1)))
        found = _read(ckan, wanted["name"])
        if found is None:
            raise CatalogError(
                f"{ckan.page(wanted['name'])} was withdrawn while it was published; publish again"
            )
        _refuse(ckan, found, version, target)
        if not compare(found, wanted):
            return found
        try:
            return _update(ckan, found, wanted)
        except _OvertakenError:
            pass
        except _NotKeptError as error:
            # CKAN answers with what it reads after it has written: with several at it that may be anybody's.
            unkept.append(str(error))
            if unkept.count(str(error)) == _UNKEPT:
                raise CatalogError(
                    f"{ckan.page(wanted['name'])} did not keep what was written: {error}"
                ) from None
    raise CatalogError(
        f"{ckan.page(wanted['name'])} was changed by someone else each of {_TRIES} times; publish again later"
    )


class _OvertakenError(Exception):
    """The entry was changed between reading and writing it."""


class _NotKeptError(Exception):
    """The entry is not as it was written; the text says in what."""


def withdraw(name: str, settings: Settings) -> bool:
    """Take an entry out of CKAN (its name is free again; CKAN keeps the record for its administrators).

    Returns whether there was one; raises CatalogError if CKAN does not allow it or cannot be reached.
    """
    with Ckan(settings, writing=True) as ckan:
        found = _read(ckan, name)
        if found is None:
            return False
        if not is_ours(found):
            raise CatalogError(f"{ckan.page(name)} was not published from a lake; remove it in CKAN itself")
        ckan.call(
            "package_delete", f"its user must be an editor of the organisation of {name!r}", id=found["id"]
        )
        return True


def fetch_entry(name: str, settings: Settings) -> CkanEntry | None:
    """The entry of a campaign as CKAN has it, or None; raises CatalogError if CKAN cannot be asked."""
    with Ckan(settings) as ckan:
        found = _read(ckan, name)
        return None if found is None else _entry(ckan, found)


def differences(
    entry: CkanEntry,
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    target: CkanTarget,
) -> list[str]:
    """What of an entry is not as this version would have it, one sentence each.

    A group that it is not in is no difference: the token may not be allowed to use it.
    """
    wanted = package(version, root, statistics, files, target)
    there = {group["name"] for group in entry.package.get("groups") or ()}
    wanted["groups"] = [group for group in wanted["groups"] if group["name"] in there]
    return compare(entry.package, wanted)


def _owner(ckan: Ckan, target: CkanTarget) -> None:
    """Make sure that the organisation exists."""
    name = target.organization
    try:
        state = ckan.call("organization_show", id=name, include_users=False)["state"]
    except CkanMissingError:
        state = None
    if state == "active":
        return
    if state is not None:
        raise CatalogError(
            f"the organisation {name!r} of {ckan.url} is {state}; ask its administrator to restore it"
        )
    try:
        ckan.call("organization_create", name=name, title=name)
    except CkanRefusedError:
        raise CatalogError(
            f"{ckan.url} has no organisation {name!r}, and the token may not create it or is not valid; "
            "ask for the organisation, or correct publish.ckan.organization in the campaign file or "
            "LAKEHOUSE_CKAN_TOKEN"
        ) from None
    except (CkanBrokenError, CkanInvalidError):
        # CKAN commits before it indexes, so it may be there all the same; or another publisher was first.
        ckan.call("organization_show", id=name, include_users=False)


def _read(ckan: Ckan, name: str) -> dict[str, Any] | None:
    hint = f"the dataset {name!r} may be private to an organisation its user is no member of"
    try:
        found = dict(ckan.call("package_show", hint, id=name))
    except CkanMissingError:
        return None
    return None if found.get("state") == "deleted" else found


def _create(ckan: Ckan, wanted: Mapping[str, Any], target: CkanTarget) -> dict[str, Any]:
    try:
        return dict(ckan.call("package_create", _membership(target), **wanted))
    except (CkanBrokenError, CkanInvalidError):
        # Another publisher took the name just now, or CKAN failed after it had committed: see what is there.
        found = _read(ckan, wanted["name"])
        if found is None:
            raise
        return found


def _update(ckan: Ckan, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what is ours in an entry, provided that it is still as it was read."""
    known = {resource["name"]: resource for resource in ours(found)}
    mine = {extra["key"] for extra in wanted["extras"]}
    kept = [extra for extra in found.get("extras") or () if extra["key"] not in mine | OPTIONAL_EXTRAS]
    foreign = [resource for resource in found.get("resources") or () if MARK not in resource]
    others = [
        {"name": group["name"]} for group in found.get("groups") or () if not is_our_group(group["name"])
    ]
    update = {name: wanted[name] for name in PLAIN} | {
        "owner_org": wanted["owner_org"],
        "tags": wanted["tags"],
        "groups": [*others, *wanted["groups"]],
        "extras": [*({"key": extra["key"], "value": extra["value"]} for extra in kept), *wanted["extras"]],
        # A resource that stays keeps its id, and so its address in CKAN, and whatever else CKAN holds of it.
        "resources": [*({**known.get(item["name"], {}), **item} for item in wanted["resources"]), *foreign],
    }
    try:
        result = ckan.call(
            "package_revise",
            f"its user must be an editor of {wanted['owner_org']!r}",
            match={"id": found["id"], "metadata_modified": found["metadata_modified"]},
            # Without this the lists would be merged element by element with the old ones.
            filter=["-tags", "-extras", "-resources", "-groups"],
            update=update,
        )["package"]
    except CkanBrokenError:
        result = _read(ckan, wanted["name"])
        if result is None or compare(result, wanted):
            raise
    except CkanInvalidError:
        now = _read(ckan, wanted["name"])
        if now is None or now["metadata_modified"] != found["metadata_modified"]:
            raise _OvertakenError from None
        raise
    if problems := compare(result, wanted):
        raise _NotKeptError(problems[0])
    return dict(result)


def _refuse(ckan: Ckan, found: Mapping[str, Any], version: Version, target: CkanTarget) -> None:
    """Keep away from what is not this version's to change."""
    page, owner = ckan.page(found["name"]), (found.get("organization") or {}).get("name")
    if not is_ours(found):
        raise CatalogError(f"{page} was not published from a lake; rename the campaign, or remove it there")
    if owner != target.organization:
        raise CatalogError(
            f"{page} belongs to the organisation {owner!r}, not to "
            f"{target.organization!r}; rename the campaign, correct publish.ckan.organization, or withdraw it"
        )
    if major(found) > version.version:
        raise CatalogError(
            f"{page} shows version {found['version']}, which is newer than {version.ref}; publish the newest "
            "version, or withdraw the entry first"
        )


def _usable_groups(ckan: Ckan, wanted: Mapping[str, str]) -> list[dict[str, str]]:
    """Those of the groups that the token's user may put an entry into; missing ones are made if it may."""
    mine = {group["name"] for group in ckan.call("group_list_authz")}
    for name in sorted(wanted.keys() - mine):
        try:
            ckan.call("group_create", name=name, title=wanted[name], description=f"Data on {wanted[name]}")
        except CkanRefusedError:
            continue
        except (CkanBrokenError, CkanInvalidError):
            # Somebody else's already, or made just now by another publisher, or made although CKAN failed.
            mine |= {group["name"] for group in ckan.call("group_list_authz")}
            continue
        mine.add(name)
    return [{"name": name} for name in sorted(wanted.keys() & mine)]


def _membership(target: CkanTarget) -> str:
    return (
        "check LAKEHOUSE_CKAN_TOKEN, and that its user is an editor or administrator of the organisation "
        f"{target.organization!r}"
    )


def _entry(ckan: Ckan, found: Mapping[str, Any], changed: bool = False) -> CkanEntry:
    name = str(found["name"])
    return CkanEntry(str(found["id"]), name, ckan.page(name), str(found["metadata_modified"]), found, changed)
