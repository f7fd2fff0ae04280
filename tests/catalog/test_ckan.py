"""The CKAN entry: what it should be, and what is said when a CKAN answers otherwise than it should."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from lakehouse.campaign import CkanTarget
from lakehouse.catalog.ckan import CkanEntry, differences, fetch_entry, publish, withdraw
from lakehouse.catalog.ckan_entry import MARK, package
from lakehouse.catalog.files import resolved
from lakehouse.errors import CatalogError
from lakehouse.settings import Settings

TOKEN = "secret-token-of-the-test"
TARGET = CkanTarget(organization="aiira")
Answer = tuple[int, Any]


@pytest.fixture(scope="module")
def version(export) -> tuple[Any, ...]:
    """What `publish` takes of a version."""
    files = resolved(export.files, "https://data.example.org/lake/catalog/pollinators/v2")
    return export.version, export.root, export.statistics, files


@contextmanager
def ckan(answer: Callable[[str, dict[str, Any]], Answer]) -> Iterator[Settings]:
    """A server that answers actions as told; JSON unless the answer is text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers["Content-Length"]))
            status, body = answer(self.path.rpartition("/")[2], json.loads(said or b"{}"))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield settings(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def settings(url: str | None, token: str | None = TOKEN) -> Settings:
    return Settings(ckan_url=url, ckan_token=SecretStr(token) if token else None)


def good(result: Any) -> Answer:
    return 200, {"success": True, "result": result}


def bad(status: int, kind: str, **more: Any) -> Answer:
    return status, {"success": False, "error": {"__type": kind, **more}}


MISSING = bad(404, "Not Found Error", message="Not found")
REFUSED = bad(403, "Authorization Error", message="Access denied: not for you")
ORGANIZATION = good({"name": "aiira", "state": "active"})
# A token that may use no group, as most may not.
GROUPS = {"group_list_authz": good([]), "group_create": REFUSED}


def stored(wanted: dict[str, Any], modified: str = "2026-01-01T00:00:00") -> dict[str, Any]:
    """A package as CKAN gives it back."""
    return {
        **wanted,
        "id": "id-1",
        "state": "active",
        "metadata_modified": modified,
        "organization": {"name": "aiira"},
    }


def entry(wanted: dict[str, Any]) -> CkanEntry:
    return CkanEntry("id-1", wanted["name"], "page", "now", stored(wanted))


# --- what the entry should be


def test_an_entry_lists_every_file_by_address_digest_and_size(version) -> None:
    resources = package(*version, TARGET)["resources"]
    files = {file.name: file for file in version[3]}
    assert {resource["name"] for resource in resources} == set(files)
    for resource in resources:
        file = files[resource["name"]]
        assert (resource["url"], resource["hash"], resource["size"]) == (file.url, file.sha256, file.size)
        assert resource["url"].startswith("https://data.example.org/lake/")
        assert resource[MARK] == file.role


def test_an_entry_says_version_licence_and_identity(version) -> None:
    wanted = package(*version, TARGET)
    extras = {extra["key"]: extra["value"] for extra in wanted["extras"]}
    assert (wanted["name"], wanted["version"], wanted["license_id"]) == ("pollinators", "2.0.0", "cc-nc")
    assert extras["content_id"] == version[1].content_id
    assert extras["photos"] == "60"
    assert json.loads(extras["spatial"])["type"] == "Polygon"
    assert extras["temporal_start"] < extras["temporal_end"]
    assert len(extras) == len(wanted["extras"])
    assert all(isinstance(value, str) for value in extras.values())


def test_tags_are_ones_that_ckan_takes(version) -> None:
    statistics = version[2].model_copy(
        update={"classes": {"Incertae sedis (?)": 1, "x": 1, "A" * 120: 1, "unknown": 1}}
    )
    tags = [tag["name"] for tag in package(version[0], version[1], statistics, version[3], TARGET)["tags"]]
    assert all(re.fullmatch(r"[\w .-]{2,100}", tag) for tag in tags)
    assert "Incertae sedis" in tags
    assert "unknown" not in tags


@pytest.mark.parametrize("url", ["data/train.tar", "file:///data/lake/train.tar"])
def test_a_file_that_others_cannot_read_is_not_published(version, url: str) -> None:
    files = [replace(version[3][0], url=url), *version[3][1:]]
    with pytest.raises(CatalogError, match="LAKEHOUSE_PUBLIC_URL"):
        package(*version[:3], files, TARGET)


def test_an_entry_of_the_version_has_no_differences(version) -> None:
    assert differences(entry(package(*version, TARGET)), *version, TARGET) == []


@pytest.mark.parametrize(
    "change,problem",
    [
        ({"title": "Other"}, "title is 'Other', not 'Pollinators & friends'"),
        ({"private": True}, "private is True, not False"),
        ({"version": "v1"}, "version is 'v1', not '2.0.0'"),
        ({"tags": []}, "the tags are none"),
        ({"extras": []}, "the extra content_id is None"),
        ({"resources": []}, "the resource data/train-"),
    ],
)
def test_each_difference_is_a_sentence(version, change: dict[str, Any], problem: str) -> None:
    problems = differences(entry({**package(*version, TARGET), **change}), *version, TARGET)
    assert any(found.startswith(problem) for found in problems)


def test_a_changed_or_additional_file_is_a_difference(version) -> None:
    wanted = package(*version, TARGET)
    first, *others = wanted["resources"]
    changed = {**wanted, "resources": [{**first, "hash": "0" * 64}, *others, {**first, "name": "old.tar"}]}
    problems = " ".join(differences(entry(changed), *version, TARGET))
    assert f"hash of the resource {first['name']} is" in problems
    assert "the resource old.tar is not of this version" in problems


def test_what_others_added_is_no_difference(version) -> None:
    wanted = package(*version, TARGET)
    added = {
        **wanted,
        "resources": [*wanted["resources"], {"name": "poster.pdf", "url": "https://x.org/poster.pdf"}],
        "extras": [*wanted["extras"], {"key": "curator", "value": "Ada"}],
    }
    assert differences(entry(added), *version, TARGET) == []


# --- what is said when it does not work


def failure(version: tuple[Any, ...], answer: Callable[[str, dict[str, Any]], Answer]) -> str:
    with ckan(answer) as found, pytest.raises(CatalogError) as raised:
        publish(*version, TARGET, found)
    assert TOKEN not in str(raised.value)
    # Nothing chained may show it either.
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return str(raised.value)


@pytest.mark.parametrize(
    "settings,words",
    [
        (settings(None), "set LAKEHOUSE_CKAN_URL"),
        (settings("http://127.0.0.1:1", None), "set LAKEHOUSE_CKAN_TOKEN"),
        (settings("http://127.0.0.1:1", "bad\ntoken"), "LAKEHOUSE_CKAN_TOKEN is not a token"),
        (settings("http://127.0.0.1:1", "日本"), "LAKEHOUSE_CKAN_TOKEN is not a token"),
        (settings("nonsense"), "check LAKEHOUSE_CKAN_URL"),
    ],
    ids=["no url", "no token", "line break", "not latin", "no address"],
)
def test_wrong_settings_are_named(version, settings: Settings, words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        publish(*version, TARGET, settings)


def test_a_ckan_that_is_down_is_named(version) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CatalogError, match=f"{url} cannot be reached"):
            publish(*version, TARGET, settings(url))


@pytest.mark.parametrize(
    "answer,words",
    [
        ((200, b"<!doctype html><html>Welcome</html>"), "with a web page, not as a CKAN"),
        ((404, b"<html>no</html>"), "with a web page, not as a CKAN"),
        ((301, b""), "has moved"),
        ((502, b"<html>Bad gateway</html>"), "see the CKAN's log, try again later"),
        (bad(500, "Search Index Error", message="Solr"), "its search index does not answer"),
        ((400, "Bad request - Action name not known"), "does not know organization_show"),
        ((200, {"error": "an old Socrata"}), "is not a CKAN"),
        (REFUSED, "does not allow organization_show (not for you); check LAKEHOUSE_CKAN_TOKEN"),
    ],
    ids=["html", "html 404", "moved", "gateway", "solr", "unknown action", "other software", "refused"],
)
def test_an_unexpected_answer_says_what_to_do(version, answer: Answer, words: str) -> None:
    assert words in failure(version, lambda action, data: answer)


def test_a_missing_organisation_that_may_not_be_created_is_named(version) -> None:
    answers = {"organization_show": MISSING, "organization_create": REFUSED}
    assert "has no organisation 'aiira'" in failure(version, lambda action, data: answers[action])


def test_a_deleted_organisation_is_named(version) -> None:
    answer = good({"name": "aiira", "state": "deleted"})
    assert "the organisation 'aiira'" in failure(version, lambda action, data: answer)


def test_an_organisation_of_others_is_named(version) -> None:
    answers = GROUPS | {"organization_show": ORGANIZATION, "package_show": MISSING, "package_create": REFUSED}
    words = failure(version, lambda action, data: answers[action])
    assert "editor or administrator of the organisation 'aiira'" in words


def test_what_ckan_finds_wrong_is_passed_on(version) -> None:
    wrong = bad(409, "Validation Error", title=["Missing value"], resources=[{}, {"url": [f"no {TOKEN}"]}])
    answers = GROUPS | {"organization_show": ORGANIZATION, "package_show": MISSING, "package_create": wrong}
    assert "title: Missing value; resources: url: no ***" in failure(
        version, lambda action, data: answers[action]
    )


def test_a_name_that_someone_else_has_is_refused(version) -> None:
    theirs = good({**stored(package(*version, TARGET)), "extras": []})
    answers = GROUPS | {"organization_show": ORGANIZATION, "package_show": theirs}
    assert "was not published from a lake" in failure(version, lambda action, data: answers[action])


def test_an_entry_of_another_organisation_is_refused(version) -> None:
    theirs = good({**stored(package(*version, TARGET)), "organization": {"name": "museum"}})
    answers = GROUPS | {"organization_show": ORGANIZATION, "package_show": theirs}
    assert "belongs to the organisation 'museum'" in failure(version, lambda action, data: answers[action])


class Catalogue:
    """What a CKAN has of one entry: creations and revisions change it, as `package_revise` does here."""

    def __init__(self, entry: dict[str, Any] | None = None) -> None:
        self.entry, self.called, self.clock = entry, [], 0

    def __call__(self, action: str, data: dict[str, Any]) -> Answer:
        self.called.append(action)
        if action in GROUPS:
            return GROUPS[action]
        if action == "organization_show":
            return ORGANIZATION
        if action == "package_show":
            return good(self.entry) if self.entry else MISSING
        if action == "package_create":
            self.entry = stored(data, self.time())
            return good(self.entry)
        assert action == "package_revise"
        assert self.entry is not None
        if any(self.entry[name] != value for name, value in data["match"].items()):
            return bad(409, "Validation Error", message=["Existing data mismatch"])
        self.entry = self.entry | data["update"] | {"metadata_modified": self.time()}
        return good({"package": self.entry})

    def time(self) -> str:
        self.clock += 1
        return f"2026-01-{self.clock:02d}"


def old(version: tuple[Any, ...], **more: Any) -> dict[str, Any]:
    """The entry as another title once had it."""
    return stored({**package(*version, TARGET), "title": "Old", **more})


@pytest.mark.parametrize("broken", ["package_create", "package_revise"])
def test_a_failure_after_the_commit_counts_as_done(version, broken: str) -> None:
    catalogue = Catalogue()

    def answer(action: str, data: dict[str, Any]) -> Answer:
        kept = catalogue(action, data)
        return (500, b"<html>Internal server error</html>") if action == broken else kept

    with ckan(answer) as found:
        done = publish(*version, TARGET, found)
    assert done.changed
    assert done.package["private"] is False
    assert catalogue.called.count(broken) == 1


@pytest.mark.parametrize("broken", ["package_create", "package_revise"])
def test_a_failure_before_the_commit_is_told_and_shows_nothing(version, broken: str) -> None:
    catalogue = Catalogue()

    def answer(action: str, data: dict[str, Any]) -> Answer:
        return (500, b"<html>Internal server error</html>") if action == broken else catalogue(action, data)

    assert f"failed at {broken} (HTTP 500)" in failure(version, answer)
    assert catalogue.entry is None or catalogue.entry["private"]


def test_an_unchanged_entry_is_only_read(version) -> None:
    catalogue = Catalogue(stored(package(*version, TARGET)))

    def never() -> list[str]:
        raise AssertionError("nothing is written, so nothing needs to be verified")

    with ckan(catalogue) as found:
        assert not publish(*version, TARGET, found, never).changed
    assert catalogue.called == ["organization_show", "package_show"]


def test_a_new_entry_is_private_until_its_snapshot_is_whole(version) -> None:
    catalogue = Catalogue()
    seen: list[Any] = []

    def verify() -> list[str]:
        seen.append(catalogue.entry and catalogue.entry["private"])
        return ["x.tar is missing"] if len(seen) == 1 else []

    with ckan(catalogue) as found:
        with pytest.raises(CatalogError, match=r"not whole \(x.tar is missing\), so .* is left private; run"):
            publish(*version, TARGET, found, verify)
        assert catalogue.entry is not None
        assert catalogue.entry["private"] is True
        assert publish(*version, TARGET, found, verify).changed
    assert catalogue.entry["private"] is False
    assert seen == [True, True]


def test_an_entry_stays_as_it_was_where_its_next_snapshot_is_not_whole(version) -> None:
    before = old(version)
    catalogue = Catalogue(before)
    with ckan(catalogue) as found, pytest.raises(CatalogError, match="is left as it was; run lakehouse"):
        publish(*version, TARGET, found, lambda: ["x.tar is missing"])
    assert catalogue.entry == before


def test_an_older_version_does_not_replace_a_newer_one(version) -> None:
    before = old(version) | {"version": "3.0.0"}
    catalogue = Catalogue(before)
    words = "shows version 3.0.0, which is newer than pollinators@v2; publish the newest version"
    assert words in failure(version, catalogue)
    assert catalogue.entry == before


def test_what_others_change_meanwhile_is_kept(version) -> None:
    catalogue = Catalogue(old(version))
    poster = {"name": "poster", "url": "https://x.org/poster.pdf"}

    def answer(action: str, data: dict[str, Any]) -> Answer:
        if action == "package_revise" and catalogue.called.count("package_revise") == 0:
            assert catalogue.entry is not None
            catalogue.entry["resources"] = [*catalogue.entry["resources"], poster]
            catalogue.entry["metadata_modified"] = catalogue.time()
        return catalogue(action, data)

    with ckan(answer) as found:
        done = publish(*version, TARGET, found)
    assert catalogue.called.count("package_revise") == 2
    assert poster in done.package["resources"]
    assert done.package["title"] == "Pollinators & friends"


def test_an_entry_that_others_keep_changing_is_given_up(version) -> None:
    catalogue = Catalogue(old(version))

    def answer(action: str, data: dict[str, Any]) -> Answer:
        if action == "package_revise":
            assert catalogue.entry is not None
            catalogue.entry["metadata_modified"] = catalogue.time()
        return catalogue(action, data)

    assert "was changed by someone else each of 7 times; publish again later" in failure(version, answer)


def test_an_answer_that_shows_what_was_there_before_is_looked_at_again(version) -> None:
    catalogue = Catalogue(old(version))
    before = dict(catalogue.entry or {})

    def answer(action: str, data: dict[str, Any]) -> Answer:
        said = catalogue(action, data)
        return good({"package": before}) if action == "package_revise" else said

    with ckan(answer) as found:
        done = publish(*version, TARGET, found)
    assert catalogue.called.count("package_revise") == 1
    assert done.package["title"] == "Pollinators & friends"


def test_a_write_that_was_not_kept_is_noticed(version) -> None:
    catalogue = Catalogue(old(version))

    def answer(action: str, data: dict[str, Any]) -> Answer:
        return good({"package": catalogue.entry}) if action == "package_revise" else catalogue(action, data)

    assert "did not keep what was written: title is 'Old'" in failure(version, answer)


def test_an_entry_is_put_into_the_groups_that_the_token_may_use(version) -> None:
    catalogue = Catalogue()

    def answer(action: str, data: dict[str, Any]) -> Answer:
        if action == "group_list_authz":
            return good([{"name": "taxon-aves"}, {"name": "museum"}])
        if action == "group_create" and data["name"] == "taxon-insecta":
            return good({"name": "taxon-insecta"})
        return catalogue(action, data)

    with ckan(answer) as found:
        done = publish(*version, TARGET, found)
        assert not publish(*version, TARGET, found).changed
    assert [group["name"] for group in done.package["groups"]] == ["taxon-aves", "taxon-insecta"]
    assert differences(done, *version, TARGET) == []


def test_a_group_of_an_earlier_version_is_left_and_one_of_others_kept(version) -> None:
    groups = [{"name": "taxon-reptilia"}, {"name": "museum"}]
    catalogue = Catalogue(old(version, groups=groups))
    with ckan(catalogue) as found:
        assert publish(*version, TARGET, found).package["groups"] == [{"name": "museum"}]


def test_an_extra_of_an_earlier_version_is_a_difference(version) -> None:
    wanted = package(*version, TARGET)
    more = {**wanted, "extras": [*wanted["extras"], {"key": "previous_snapshot_id", "value": "0" * 64}]}
    assert differences(entry(more), *version, TARGET) == [
        "the extra previous_snapshot_id is not this version's"
    ]


def test_no_entry_is_none_and_withdrawing_it_does_nothing() -> None:
    with ckan(lambda action, data: MISSING) as found:
        assert fetch_entry("pollinators", found) is None
        assert withdraw("pollinators", found) is False
