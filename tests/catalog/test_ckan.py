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
    answers = {"organization_show": ORGANIZATION, "package_show": MISSING, "package_create": REFUSED}
    words = failure(version, lambda action, data: answers[action])
    assert "editor or administrator of the organisation 'aiira'" in words


def test_what_ckan_finds_wrong_is_passed_on(version) -> None:
    wrong = bad(409, "Validation Error", title=["Missing value"], resources=[{}, {"url": [f"no {TOKEN}"]}])
    answers = {"organization_show": ORGANIZATION, "package_show": MISSING, "package_create": wrong}
    assert "title: Missing value; resources: url: no ***" in failure(
        version, lambda action, data: answers[action]
    )


def test_a_name_that_someone_else_has_is_refused(version) -> None:
    theirs = good({**stored(package(*version, TARGET)), "extras": []})
    answers = {"organization_show": ORGANIZATION, "package_show": theirs}
    assert "was not published from a lake" in failure(version, lambda action, data: answers[action])


def test_an_entry_of_another_organisation_is_refused(version) -> None:
    theirs = good({**stored(package(*version, TARGET)), "organization": {"name": "museum"}})
    answers = {"organization_show": ORGANIZATION, "package_show": theirs}
    assert "belongs to the organisation 'museum'" in failure(version, lambda action, data: answers[action])


def test_a_failure_after_the_commit_counts_as_done(version) -> None:
    made: list[dict[str, Any]] = []

    def answer(action: str, data: dict[str, Any]) -> Answer:
        if action == "organization_show":
            return ORGANIZATION
        if action == "package_create":
            made.append(data)
            return 500, b"<html>Internal server error</html>"
        return good(stored(made[0])) if made else MISSING

    with ckan(answer) as found:
        assert publish(*version, TARGET, found).changed
    assert len(made) == 1


def test_an_unchanged_entry_is_only_read(version) -> None:
    called: list[str] = []

    def answer(action: str, data: dict[str, Any]) -> Answer:
        called.append(action)
        return ORGANIZATION if action == "organization_show" else good(stored(package(*version, TARGET)))

    with ckan(answer) as found:
        assert not publish(*version, TARGET, found).changed
    assert called == ["organization_show", "package_show"]


def test_a_change_by_others_meanwhile_is_not_overwritten(version) -> None:
    times = iter(["2026-01-01", "2026-01-02"])

    def answer(action: str, data: dict[str, Any]) -> Answer:
        if action == "organization_show":
            return ORGANIZATION
        if action == "package_revise":
            assert data["match"] == {"id": "id-1", "metadata_modified": "2026-01-01"}
            return bad(409, "Validation Error", message=["Existing data mismatch"])
        return good(stored({**package(*version, TARGET), "title": "Old"}, next(times)))

    assert "was changed by someone else meanwhile; publish again" in failure(version, answer)


def test_a_write_that_was_not_kept_is_noticed(version) -> None:
    old = stored({**package(*version, TARGET), "title": "Old"})

    def answer(action: str, data: dict[str, Any]) -> Answer:
        if action == "organization_show":
            return ORGANIZATION
        return good({"package": old}) if action == "package_revise" else good(old)

    assert "did not keep what was written: title is 'Old'" in failure(version, answer)


def test_no_entry_is_none_and_withdrawing_it_does_nothing() -> None:
    with ckan(lambda action, data: MISSING) as found:
        assert fetch_entry("pollinators", found) is None
        assert withdraw("pollinators", found) is False
