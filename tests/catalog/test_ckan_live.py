"""Publishing to a real CKAN: LAKEHOUSE_CKAN_URL and LAKEHOUSE_CKAN_TOKEN of a system administrator."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from ckanapi import NotAuthorized, NotFound, RemoteCKAN
from pydantic import SecretStr

from lakehouse.campaign import CkanTarget
from lakehouse.catalog.ckan import differences, fetch_entry, publish, withdraw
from lakehouse.catalog.files import resolved
from lakehouse.errors import CatalogError
from lakehouse.settings import Settings

URL, TOKEN = os.environ.get("LAKEHOUSE_CKAN_URL"), os.environ.get("LAKEHOUSE_CKAN_TOKEN")
pytestmark = [
    pytest.mark.ckan,
    pytest.mark.skipif(not (URL and TOKEN), reason="LAKEHOUSE_CKAN_URL and LAKEHOUSE_CKAN_TOKEN are not set"),
]
BASE = "https://data.example.org/lake/catalog/pollinators/v2"


@pytest.fixture
def remote() -> Iterator[RemoteCKAN]:
    with RemoteCKAN(URL, apikey=TOKEN) as opened:
        yield opened


@pytest.fixture
def target(remote: RemoteCKAN) -> Iterator[CkanTarget]:
    name = f"test-org-{uuid.uuid4().hex[:10]}"
    yield CkanTarget(organization=name)
    try:
        remote.action.organization_purge(id=name)
    except NotFound:
        return  # the test never made it


@pytest.fixture
def settings() -> Settings:
    return Settings(ckan_url=URL, ckan_token=SecretStr(TOKEN or ""))


@pytest.fixture
def version(make_export, tmp_path: Path, remote: RemoteCKAN, target: CkanTarget) -> Iterator[tuple[Any, ...]]:
    name = f"test-{uuid.uuid4().hex[:10]}"
    made = make_export(tmp_path, photos=20, name=name)
    yield made.version, made.root, made.statistics, resolved(made.files, BASE)
    # Deleted entries keep their id while the name is free, so every one of them is looked for.
    query = f"name:{name}"
    for found in remote.action.package_search(fq=query, include_private=True, rows=100)["results"]:
        remote.action.dataset_purge(id=found["id"])
    try:
        remote.action.dataset_purge(id=name)
    except NotFound:
        return


def ids(entry: Any) -> dict[str, str]:
    return {resource["name"]: resource["id"] for resource in entry.package["resources"]}


def test_an_entry_equals_its_version(version, target, settings) -> None:
    entry = publish(*version, target, settings)
    assert entry.changed
    read = fetch_entry(version[0].campaign, settings)
    assert read is not None
    assert differences(read, *version, target) == []
    assert read.package["license_title"] is not None


def test_publishing_twice_writes_nothing(version, target, settings) -> None:
    first = publish(*version, target, settings)
    second = publish(*version, target, settings)
    assert not second.changed
    assert second.modified == first.modified


def test_a_new_version_keeps_ids_and_what_others_added(version, target, settings, remote) -> None:
    first = publish(*version, target, settings)
    remote.action.resource_create(package_id=first.id, name="poster", url="https://x.org/poster.pdf")
    remote.action.package_patch(
        id=first.id, extras=[*first.package["extras"], {"key": "curator", "value": "Ada"}]
    )
    next_version = version[0].model_copy(update={"version": 3, "snapshot_id": "3" * 64})
    files = [file for file in version[3] if file.role != "attribution"]
    second = publish(next_version, *version[1:3], files, target, settings)
    assert (second.changed, second.id, second.package["version"]) == (True, first.id, "3.0.0")
    assert differences(second, next_version, *version[1:3], files, target) == []
    kept = ids(second)
    assert "attribution.parquet" not in kept
    assert "poster" in kept
    assert all(kept[file.name] == ids(first)[file.name] for file in files)
    assert {"key": "curator", "value": "Ada"} in second.package["extras"]
    assert not publish(next_version, *version[1:3], files, target, settings).changed


def test_a_private_entry_is_not_shown_to_others(version, target, settings, remote) -> None:
    publish(*version, target.model_copy(update={"private": True}), settings)
    with RemoteCKAN(URL) as anyone, pytest.raises((NotAuthorized, NotFound)):
        anyone.action.package_show(id=version[0].campaign)


def test_withdrawing_frees_the_name(version, target, settings) -> None:
    publish(*version, target, settings)
    assert withdraw(version[0].campaign, settings)
    assert fetch_entry(version[0].campaign, settings) is None
    assert not withdraw(version[0].campaign, settings)
    assert publish(*version, target, settings).changed


def test_publishers_at_once_make_one_entry(version, target, settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(publish, *version, target, settings) for _ in range(4)]
        entries = [job.result() for job in waiting]
    assert len({entry.id for entry in entries}) == 1
    read = fetch_entry(version[0].campaign, settings)
    assert read is not None
    assert differences(read, *version, target) == []


def test_an_entry_is_private_until_its_snapshot_is_whole(version, target, settings) -> None:
    def seen_by_anyone() -> bool:
        with RemoteCKAN(URL) as anyone:
            try:
                return bool(anyone.action.package_show(id=version[0].campaign))
            except (NotAuthorized, NotFound):
                return False

    seen: list[bool] = []

    def verify() -> list[str]:
        seen.append(seen_by_anyone())
        return ["a shard is missing"] if len(seen) == 1 else []

    with pytest.raises(CatalogError, match="is left private"):
        publish(*version, target, settings, verify)
    assert not seen_by_anyone()
    assert publish(*version, target, settings, verify).changed
    assert seen == [False, False]
    assert seen_by_anyone()


def test_an_entry_is_in_a_group_for_each_class(version, target, settings, remote) -> None:
    entry = publish(*version, target, settings)
    groups = {group["name"]: group["title"] for group in entry.package["groups"]}
    assert groups == {f"taxon-{name.lower()}": name for name in version[2].classes}
    others = f"test-group-{uuid.uuid4().hex[:10]}"
    remote.action.group_create(name=others)
    try:
        remote.action.member_create(id=others, object=entry.id, object_type="package", capacity="public")
        fewer = version[2].model_copy(update={"classes": {"Aves": 1}})
        again = publish(version[0], version[1], fewer, version[3], target, settings)
        assert {group["name"] for group in again.package["groups"]} == {"taxon-aves", others}
    finally:
        remote.action.group_purge(id=others)


@pytest.fixture
def editor(remote, target) -> Iterator[Settings]:
    """The settings of somebody who may edit the organisation's datasets and nothing else."""
    name = f"test-editor-{uuid.uuid4().hex[:10]}"
    remote.action.organization_create(name=target.organization)
    user = remote.action.user_create(
        name=name, email=f"{name}@example.org", password=uuid.uuid4().hex, fullname="Editor"
    )
    remote.action.organization_member_create(id=target.organization, username=name, role="editor")
    token = remote.action.api_token_create(user=name, name="test")["token"]
    yield Settings(ckan_url=URL, ckan_token=SecretStr(token))
    remote.action.user_delete(id=user["id"])


def test_an_editor_who_may_use_no_group_publishes_all_the_same(version, target, editor) -> None:
    first = publish(*version, target, editor)
    assert first.package["groups"] == []
    second = publish(*version, target, editor)
    assert (second.changed, second.modified) == (False, first.modified)
    assert differences(second, *version, target) == []


def test_an_editor_of_another_organisation_is_refused(version, target, editor, remote) -> None:
    other = target.model_copy(update={"organization": f"test-org-{uuid.uuid4().hex[:10]}"})
    remote.action.organization_create(name=other.organization)
    try:
        with pytest.raises(CatalogError, match="editor or administrator of the organisation"):
            publish(*version, other, editor)
        with pytest.raises(NotFound):
            remote.action.package_show(id=version[0].campaign)
    finally:
        remote.action.organization_purge(id=other.organization)


def test_publishers_of_two_versions_at_once_end_with_the_newer(version, target, settings) -> None:
    newer = version[0].model_copy(update={"version": 3, "snapshot_id": "3" * 64})

    def attempt(which: Any) -> str | None:
        try:
            publish(which, *version[1:], target, settings)
        except CatalogError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(attempt, [version[0], newer] * 3))
    assert [words for words in said if words is not None and "newer than" not in words] == []
    assert said[1::2] == [None] * 3
    read = fetch_entry(version[0].campaign, settings)
    assert read is not None
    assert differences(read, newer, *version[1:], target) == []


def test_a_photograph_taken_out_replaces_the_entry_of_the_same_version(version, target, settings) -> None:
    first = publish(*version, target, settings)
    successor = version[0].model_copy(update={"snapshot_id": "7" * 64})
    second = publish(successor, *version[1:], target, settings)
    assert (second.changed, second.id, second.package["version"]) == (True, first.id, "2.0.0")
    extras = {extra["key"]: extra["value"] for extra in second.package["extras"]}
    assert extras["snapshot_id"] == "7" * 64


def test_a_token_that_is_not_valid_is_told_without_showing_it(version, target) -> None:
    wrong = Settings(ckan_url=URL, ckan_token=SecretStr("eyJ-not-a-token"))
    with pytest.raises(CatalogError, match="LAKEHOUSE_CKAN_TOKEN") as raised:
        publish(*version, target, wrong)
    assert "eyJ-not-a-token" not in str(raised.value)


def test_an_address_below_the_front_page_is_told(version, target) -> None:
    wrong = Settings(ckan_url=f"{URL}/about", ckan_token=SecretStr(TOKEN or ""))
    with pytest.raises(CatalogError, match="correct LAKEHOUSE_CKAN_URL"):
        publish(*version, target, wrong)


def test_a_dataset_of_someone_else_is_left_alone(version, target, settings, remote) -> None:
    remote.action.organization_create(name=target.organization)
    remote.action.package_create(name=version[0].campaign, owner_org=target.organization, title="Theirs")
    with pytest.raises(CatalogError, match="was not published from a lake"):
        publish(*version, target, settings)
    with pytest.raises(CatalogError, match="was not published from a lake"):
        withdraw(version[0].campaign, settings)
    assert remote.action.package_show(id=version[0].campaign)["title"] == "Theirs"


def test_ckans_own_croissant_of_the_entry_is_valid(version, target, settings, tmp_path: Path) -> None:
    import mlcroissant

    entry = publish(*version, target, settings)
    answer = httpx.get(f"{entry.page}/croissant.jsonld", timeout=60)
    answer.raise_for_status()
    path = tmp_path / "ckan.jsonld"
    path.write_bytes(answer.content)
    metadata = mlcroissant.Dataset(path).metadata
    assert not metadata.ctx.issues.errors
    assert metadata.name == version[0].about.title
    assert {file.sha256 for file in metadata.file_objects} == {file.sha256 for file in version[3]}
