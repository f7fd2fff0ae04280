"""The Hub through its own client, against a stand-in on loopback: what arrives, what does not travel twice,
what is refused, and what is taken back."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr, ValidationError

from lakehouse.campaign import HuggingFaceTarget
from lakehouse.catalog import bundle, hub_client, huggingface
from lakehouse.catalog.hub_features import features, front_of, pinned
from lakehouse.catalog.huggingface import check_limits, forget_earlier, publish
from lakehouse.errors import CatalogError, UsageError
from lakehouse.settings import Settings
from lakehouse.snapshots.export import SIDECAR, Format
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import MANIFEST
from tests.catalog.hub import TOKEN, Entry, FakeHub, serve

REPO, COMPANION = "bees/demo", "bees/demo-metadata"
TARGET = HuggingFaceTarget(repo=REPO)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Xet (the stand-in does not speak it), no waiting, no figures."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    monkeypatch.setattr(hub_client, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(bundle, "pictures", lambda *arguments: {"figures/strip.jpg": b"a picture"})


@pytest.fixture(autouse=True)
def _exported_once(
    monkeypatch: pytest.MonkeyPatch, exports: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Exports are copies of one that was really made: what is tested is how they travel."""
    whole = huggingface.fill

    def fill(snapshot: Snapshot, folder: Path, layout: Format, written: Any) -> Any:
        if snapshot.version.ref not in exports:
            made = exports["folder"] / snapshot.version.ref
            made.mkdir()
            exports[snapshot.version.ref] = made, whole(snapshot, made, layout)
        made, files = exports[snapshot.version.ref]
        shutil.copytree(made, folder, dirs_exist_ok=True)
        for file in files:
            if file.role == "shard":
                written(file)
        return files

    monkeypatch.setattr(huggingface, "fill", fill)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("exports")}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def settings(hub: FakeHub) -> Settings:
    return connected(hub.url)


@pytest.fixture(scope="session")
def first(demo: Any) -> Snapshot:
    return Snapshot(demo.lake, demo.first.version)


@pytest.fixture(scope="session")
def second(demo: Any) -> Snapshot:
    return Snapshot(demo.lake, demo.second.version)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Hugging Face datasets, offline and quiet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hugging-face")))
        import datasets

        datasets.disable_progress_bars()
        yield datasets


def connected(url: str, token: str = TOKEN) -> Settings:
    return Settings(_env_file=None, HF_TOKEN=SecretStr(token), HF_ENDPOINT=url)


def download(hub: FakeHub, repo: str, folder: Path) -> Path:
    """What the main branch shows, as files."""
    found = hub.repos[repo]
    for name in found.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.read(name))
    return folder


def manifest_of(snapshot: Snapshot) -> pl.DataFrame:
    return snapshot.manifest.collect()


# --- what arrives


def test_a_version_arrives_whole_public_and_tagged(
    hub: FakeHub, settings: Settings, second: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "fill", bundle.fill)
    entry = publish(second, TARGET, settings)
    for name in (REPO, COMPANION):
        repo = hub.repos[name]
        assert not repo.private
        assert repo.tags == {"v2": repo.head}
        assert len(repo.commits) == 2, "the empty one, and one with everything"
        sums = repo.read("checksums.txt").decode().splitlines()
        listed = {line.split("  ", 1)[1]: line.split("  ", 1)[0] for line in sums}
        assert set(listed) | {".gitattributes", "checksums.txt", "lakehouse.json"} == set(repo.files)
        for path, digest in listed.items():
            assert hashlib.sha256(repo.read(path)).hexdigest() == digest
    assert json.loads(hub.repos[REPO].read("lakehouse.json"))["snapshot_id"] == second.version.snapshot_id
    assert {"CITATION.cff", "croissant.json", "datacite.json", "dataset.jsonld"} <= set(hub.repos[REPO].files)
    assert (entry.page, entry.changed, entry.tag) == (f"{hub.url}/datasets/{REPO}", True, "v2")
    assert entry.uploaded == len(hub.repos[REPO].files) + len(hub.repos[COMPANION].files) - 2


def test_the_hubs_loader_opens_both_repositories(
    hub: FakeHub, settings: Settings, second: Snapshot, datasets: Any, tmp_path: Path
) -> None:
    publish(second, TARGET, settings)
    manifest = manifest_of(second)
    images = datasets.load_dataset(
        str(download(hub, REPO, tmp_path / "images")), cache_dir=str(tmp_path / "cache")
    )
    wanted = datasets.Features._from_yaml_list(features("jpg"))
    for split, rows in images.items():
        assert rows.features == wanted
        rows = rows.cast_column("jpg", datasets.Image(decode=False))
        found = {row["json"]["photo_id"]: hashlib.sha256(row["jpg"]["bytes"]).hexdigest() for row in rows}
        mine = manifest.filter(pl.col("split") == split)
        assert found == dict(mine.select("photo_id", "sha256").iter_rows())
    table = datasets.load_dataset(
        str(download(hub, COMPANION, tmp_path / "metadata")), cache_dir=str(tmp_path / "cache")
    )
    assert set(images) == set(table) == set(second.root.counts.splits)
    placed = ("file_name", "shard", "offset")
    for split, rows in table.items():
        found = pl.from_arrow(rows.data.table).cast(dict(MANIFEST))
        assert isinstance(found, pl.DataFrame)
        assert found.drop(placed).equals(manifest.filter(pl.col("split") == split).drop(placed))


def test_one_repository_could_not_hold_both_for_the_loader(
    hub: FakeHub, settings: Settings, second: Snapshot, datasets: Any, tmp_path: Path
) -> None:
    """Why there is a companion; when this fails, the loader has learnt it (huggingface/datasets#7101)."""
    publish(second, TARGET, settings)
    folder = download(hub, REPO, tmp_path / "images")
    card = folder / "README.md"
    metadata = "- config_name: metadata\n  data_files: manifest.parquet\ndataset_info:"
    card.write_text(card.read_text(encoding="utf-8").replace("dataset_info:", metadata), encoding="utf-8")
    with pytest.raises(Exception, match=r"(?i)header|truncated|tar|generat"):
        datasets.load_dataset(str(folder), "metadata", cache_dir=str(tmp_path / "cache"))


def test_the_features_are_those_the_loader_writes_itself(datasets: Any) -> None:
    read = datasets.Features._from_yaml_list(features("jpg"))
    assert read._to_yaml_list() == features("jpg")
    assert set(read["json"]) == set(SIDECAR)
    assert isinstance(read["jpg"], datasets.Image)


def test_pinning_keeps_the_card(first: Snapshot) -> None:
    title = 'a: "b" --- \\ #'
    card = f"---\npretty_name: '{title}'\ndescription: x ---\nconfigs: []\n---\n\n# A\n\n---\nrule\n"
    made = pinned(card, {"train": 3}, "png")
    values, body = front_of(made)
    assert body == "\n# A\n\n---\nrule\n"
    assert values["pretty_name"] == title
    assert values["dataset_info"]["splits"] == [{"name": "train", "num_examples": 3}]
    assert values["dataset_info"]["features"][0] == {"name": "png", "dtype": "image"}


def test_large_files_travel_in_parts_if_the_hub_asks(
    hub: FakeHub, settings: Settings, second: Snapshot
) -> None:
    hub.part = 100_000
    publish(second, TARGET, settings)
    largest = max(hub.repos[REPO].large.values(), key=len)
    assert hub.requests["storage"] > len(hub.repos[REPO].large) + len(hub.repos[COMPANION].large)
    assert len(largest) > hub.part


# --- what does not travel twice


def test_a_second_publish_sends_and_writes_nothing(
    hub: FakeHub, settings: Settings, second: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(second, TARGET, settings)
    heads, received = {name: repo.head for name, repo in hub.repos.items()}, hub.received
    hub.requests.clear()
    monkeypatch.setattr(huggingface, "fill", None)  # not even exported
    entry = publish(second, TARGET, settings)
    assert (entry.changed, entry.uploaded, entry.bytes) == (False, 0, 0)
    assert hub.received == received
    assert {name: repo.head for name, repo in hub.repos.items()} == heads
    assert not {"commit", "tag", "preupload", "settings", "create"} & set(hub.requests)


def test_an_interrupted_upload_goes_on_where_it_was(
    hub: FakeHub, settings: Settings, second: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(huggingface, "lay_out_metadata", interrupt)
        publish(second, TARGET, settings)
    repo = hub.repos[REPO]
    assert repo.private and set(repo.files) == {".gitattributes"}, "nobody sees half of it"
    archives = sum(len(data) for data in repo.large.values())
    assert archives > 0
    hub.received = 0
    publish(second, TARGET, settings)
    rest = [*repo.large.values(), *hub.repos[COMPANION].large.values()]
    assert hub.received == sum(map(len, rest)) - archives
    assert repo.tags == {"v2": repo.head} and not repo.private


def test_a_commit_whose_answer_was_lost_counts(
    hub: FakeHub, settings: Settings, second: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    whole = HfApi.create_commit

    def lost(self: Any, *arguments: Any, **named: Any) -> Any:
        whole(self, *arguments, **named)
        hub.fail = lambda method, path: (504, "upstream timed out") if path.endswith("/whoami-v2") else None
        answer = self.whoami
        try:
            answer()
        except HfHubHTTPError as error:
            raise error from None

    monkeypatch.setattr(HfApi, "create_commit", lost)
    assert publish(second, TARGET, settings).changed
    assert len(hub.repos[REPO].commits) == 2
    assert hub.repos[REPO].tags == {"v2": hub.repos[REPO].head}


def test_the_next_version_replaces_the_files_and_keeps_the_tag(
    hub: FakeHub, settings: Settings, first: Snapshot, second: Snapshot
) -> None:
    publish(first, TARGET, settings)
    repo = hub.repos[REPO]
    before, old = repo.head, set(repo.files)
    publish(second, TARGET, settings)
    assert repo.tags == {"v1": before, "v2": repo.head}
    assert repo.parents[repo.head] == before
    archives = {name for name in repo.files if name.endswith(".tar")}
    sums = repo.read("checksums.txt").decode()
    assert archives and all(name in sums for name in archives)
    assert set(repo.commits[before]) == old, "the former version is still there under its tag"


def test_a_version_out_of_which_photographs_were_taken_moves_its_tag(
    hub: FakeHub, settings: Settings, second: Snapshot
) -> None:
    publish(second, TARGET, settings)
    repo = hub.repos[REPO]
    before = repo.head
    record = json.loads(repo.read("lakehouse.json")) | {"snapshot_id": "0" * 64}
    data = json.dumps(record).encode()
    repo.commits[before]["lakehouse.json"] = Entry("0" * 40, len(data), data)
    assert publish(second, TARGET, settings).changed
    assert repo.head != before and repo.tags == {"v2": repo.head}


def test_files_of_others_stay(hub: FakeHub, settings: Settings, first: Snapshot, second: Snapshot) -> None:
    publish(first, TARGET, settings)
    repo = hub.repos[REPO]
    repo.commit({**repo.files, "NOTES.md": Entry("0" * 40, 4, b"mine")})
    publish(second, TARGET, settings)
    assert repo.read("NOTES.md") == b"mine"


def test_a_file_that_was_deleted_there_comes_back(hub: FakeHub, settings: Settings, second: Snapshot) -> None:
    publish(second, TARGET, settings)
    repo = hub.repos[REPO]
    (name, *_) = [name for name in repo.files if name.endswith(".tar")]
    repo.commit({path: entry for path, entry in repo.files.items() if path != name})
    hub.received = 0
    assert publish(second, TARGET, settings).changed
    assert name in repo.files
    assert hub.received == 0, "its bytes were there still"


def test_a_card_that_was_edited_there_is_put_right(
    hub: FakeHub, settings: Settings, second: Snapshot
) -> None:
    publish(second, TARGET, settings)
    repo = hub.repos[REPO]
    card = repo.read("README.md")
    repo.commit({**repo.files, "README.md": Entry("0" * 40, 9, b"not this!")})
    assert publish(second, TARGET, settings).changed
    assert repo.read("README.md") == card


def test_a_private_repository_stays_private(hub: FakeHub, settings: Settings, second: Snapshot) -> None:
    private = HuggingFaceTarget(repo=REPO, private=True)
    publish(second, private, settings)
    assert hub.repos[REPO].private and hub.repos[COMPANION].private
    publish(second, TARGET, settings)
    assert not hub.repos[REPO].private, "as the campaign says now"
    assert publish(second, private, settings).changed
    assert hub.repos[REPO].private


# --- what is refused


def test_a_repository_of_others_is_left_alone(hub: FakeHub, settings: Settings, second: Snapshot) -> None:
    publish(second, TARGET, settings)
    repo = hub.repos[REPO]
    repo.commit({"model.bin": Entry("0" * 40, 4, b"mine")})
    with pytest.raises(CatalogError, match="holds files that were not published from this campaign"):
        publish(second, TARGET, settings)
    assert set(repo.files) == {"model.bin"}


def test_somebody_else_committing_meanwhile_is_told(
    hub: FakeHub, settings: Settings, second: Snapshot
) -> None:
    def meanwhile(method: str, path: str) -> None:
        if path == f"/api/datasets/{REPO}/commit/main":
            repo = hub.repos[REPO]
            repo.commit({**repo.files, "NOTES.md": Entry("0" * 40, 4, b"mine")})

    hub.fail = meanwhile
    with pytest.raises(
        CatalogError, match=r"answered 412 .*changed by someone else meanwhile; publish again"
    ):
        publish(second, TARGET, settings)
    assert set(hub.repos[REPO].files) == {".gitattributes", "NOTES.md"}
    assert hub.repos[REPO].private


@pytest.mark.parametrize(
    ("place", "status", "sentence"),
    [
        ("/preupload/", 401, "HF_TOKEN is not known to it"),
        ("/preupload/", 403, "HF_TOKEN may not write to 'bees/demo'"),
        ("/preupload/", 404, "'bees/demo' is not there, or HF_TOKEN may not see it"),
        ("/commit/", 409, "changed by someone else meanwhile"),
        ("/storage/", 413, "too large"),
        ("/commit/", 429, "too many requests"),
        ("/storage/", 500, "publish again to go on"),
        ("/tag/", 403, "HF_TOKEN may not write to 'bees/demo'"),
    ],
)
def test_every_refusal_is_one_sentence_without_the_token(
    hub: FakeHub, settings: Settings, second: Snapshot, status: int, sentence: str, place: str
) -> None:
    hub.fail = lambda method, path: (
        (status, f"no, Bearer {TOKEN}") if place in path and REPO + "/" in path else None
    )
    with pytest.raises(CatalogError) as refused:
        publish(second, TARGET, settings)
    told = str(refused.value)
    assert f"answered {status}" in told and sentence in told
    assert TOKEN not in told and "\n" not in told
    assert refused.value.__cause__ is None
    if place != "/tag/":
        assert set(hub.repos[REPO].files) == {".gitattributes"}, "nothing is half-published"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_faults_are_passed_over(
    hub: FakeHub, settings: Settings, second: Snapshot, status: int
) -> None:
    seen: set[tuple[str, str]] = set()

    def once(method: str, path: str) -> tuple[int, str] | None:
        if (method, path) in seen:
            return None
        seen.add((method, path))
        return status, "busy"

    hub.fail = once
    assert publish(second, TARGET, settings).changed
    assert hub.repos[REPO].tags == {"v2": hub.repos[REPO].head}


def test_a_wrong_token_is_told(hub: FakeHub, second: Snapshot) -> None:
    with pytest.raises(CatalogError, match=r"answered 401 \(Invalid username or password\): HF_TOKEN"):
        publish(second, TARGET, connected(hub.url, "hf_wrong"))


def test_nobody_answering_is_told(second: Snapshot) -> None:
    with pytest.raises(CatalogError, match=r"http://127\.0\.0\.1:9 cannot be reached: .*HF_ENDPOINT"):
        publish(second, TARGET, connected("http://127.0.0.1:9"))


def test_without_a_token_nothing_is_asked(second: Snapshot) -> None:
    with pytest.raises(UsageError, match="set HF_TOKEN"):
        publish(second, TARGET, Settings(_env_file=None))


def test_the_hubs_limits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    check_limits({f"data/{number}": 1 for number in range(9_999)})
    with pytest.raises(CatalogError, match=r"folder 'data' would have 10,000 files; the Hub takes 9,999"):
        check_limits({f"data/{number}": 1 for number in range(10_000)})
    with pytest.raises(CatalogError, match=r"manifest\.parquet has 30,000,000,000 bytes"):
        check_limits({"manifest.parquet": 30_000_000_000})
    with pytest.raises(CatalogError, match="100,000 files"):
        check_limits({f"{number % 50}/{number}": 1 for number in range(100_000)})


def test_a_dataset_beyond_the_limits_is_refused_before_anything_is_asked(
    hub: FakeHub, settings: Settings, second: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "MAX_FOLDER", 2)
    with pytest.raises(CatalogError, match="the Hub takes 2 in one"):
        publish(second, TARGET, settings)
    assert hub.repos == {}


@pytest.mark.parametrize(
    "repo", ["demo", "a/b/c", "a/b--c", "a/b.git", "-a/b", "a/b..c", "a/" + "b" * 90, "a /b"]
)
def test_a_repository_the_hub_would_not_make_is_refused_in_the_campaign(repo: str) -> None:
    with pytest.raises(ValidationError):
        HuggingFaceTarget(repo=repo)


# --- what is taken back


def test_forgetting_leaves_the_newest_version_and_nothing_else(
    hub: FakeHub, settings: Settings, first: Snapshot, second: Snapshot
) -> None:
    publish(first, TARGET, settings)
    publish(second, TARGET, settings)
    before = {name: dict(repo.large) for name, repo in hub.repos.items()}
    done = forget_earlier(second, TARGET, settings)
    assert [one.repo for one in done] == [REPO, COMPANION]
    for one in done:
        repo = hub.repos[one.repo]
        shown = {entry.oid for entry in repo.files.values() if entry.small is None}
        assert set(repo.large) == shown
        gone = set(before[one.repo]) - shown
        assert gone and (one.files, one.bytes) == (len(gone), sum(len(before[one.repo][oid]) for oid in gone))
        assert one.tags == ("v1",)
        assert repo.tags == {"v2": repo.head}
        assert list(repo.commits) == [repo.head], "no history"
    assert not publish(second, TARGET, settings).changed, "the version itself is whole"


def test_what_is_shown_is_never_forgotten(
    hub: FakeHub, settings: Settings, first: Snapshot, second: Snapshot
) -> None:
    publish(first, TARGET, settings)
    with pytest.raises(CatalogError, match="does not show demo@v2; publish it first"):
        forget_earlier(second, TARGET, settings)
    assert hub.repos[REPO].tags.keys() == {"v1"}
