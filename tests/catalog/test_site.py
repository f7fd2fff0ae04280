"""Landing pages: what they say, that they are the same every time, and whose files they touch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rdflib import Graph, Namespace

from lakehouse.campaign import Creator
from lakehouse.catalog import site
from lakehouse.catalog.plain import plain
from lakehouse.catalog.site import build_site
from lakehouse.errors import NotFoundError, UsageError
from lakehouse.lake import Lake
from lakehouse.licences import LICENCES
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from lakehouse.snapshots.identity import canonical_json
from lakehouse.snapshots.model import About, Withdrawal
from lakehouse.snapshots.read import Snapshot

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" onmouseover='alert(3)' {{7*7}} "
    "=cmd|'/c calc'!A1 \x00\x1b[31m \u202egnp.exe شجرة עץ javascript:alert(4)//]]>--><!-- &lt; \\u003c"
    " " + "W" * 300
)


def renamed(path: Path, text: str) -> Lake:
    """The lake at `path` with every text of others in demo@v1 and demo@v2 replaced by `text`."""
    lake = Lake(str(path), Settings(_env_file=None))
    for version in refs.versions(lake, "demo"):
        creators = (Creator(name=text, url=f"javascript:alert(5)//{text}"), Creator(name=text, url=text))
        about = About(title=text, description=text, creators=creators)
        refs.replace_version(lake, version.model_copy(update={"about": about}))
        root = Snapshot(lake, version).root
        for parts in root.partitions:
            file = path / parts.records.key
            pl.read_parquet(file).with_columns(creator=pl.lit(text)).write_parquet(file)
        taxa = path / root.taxa.key
        pl.read_parquet(taxa).with_columns(label=pl.lit(text), kingdom=pl.lit(text)).write_parquet(taxa)
        for name in ("files.json", "statistics.json", "manifest.parquet", "CITATION.cff"):
            (path / "catalog" / "demo" / f"v{version.version}" / name).unlink()
    return lake


class Page(HTMLParser):
    """What a page consists of: elements with their attributes, and the text of the data it embeds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.embedded: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.embedded.append(data)

    def all(self, tag: str, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for name, attrs in self.elements if name == tag and attribute in attrs]


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def pages(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's site; read only."""
    folder = tmp_path_factory.mktemp("pages")
    build_site(demo.lake, folder, url="https://data.example.org/sets/")
    return folder


@pytest.fixture
def own(pages: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(pages, tmp_path / "own")
    return tmp_path / "own"


# --- what they say


def test_a_page_says_what_the_snapshot_says(pages: Path, demo: Any) -> None:
    root = refs.read_root(demo.lake, demo.second.version.snapshot_id)
    html = read(pages, "demo/v2/index.html")
    for said in (
        demo.campaign.title,
        demo.campaign.description.strip(),
        f"<dd>{root.counts.photos:,}</dd>",
        f"<dd>{root.counts.labels:,}</dd>",
        root.content_id,
        demo.second.version.snapshot_id,
        *(LICENCES[code].url for code in root.counts.licenses),
        *(f">{count:,}</td>" for count in root.counts.licenses.values()),
        *(f">{count:,}</td>" for count in demo.second.version.accounting.values()),
        "Asking for removal",
        "@misc{demo-v2",
        "<strong>Synthetic.</strong>",
    ):
        assert said in html, said


def test_a_page_shows_how_the_versions_differ(pages: Path, demo: Any) -> None:
    html = read(pages, "demo/v1/index.html")
    changes = demo.second.version.changes
    assert ", ".join(f"{count:,} {kind}" for kind, count in changes.items() if count) in html
    assert 'There is a newer version: <a href="../v2/index.html">v2</a>' in html
    assert "There is a newer version" not in read(pages, "demo/v2/index.html")


def test_every_photograph_that_is_shown_is_credited_and_may_be_adapted(pages: Path, demo: Any) -> None:
    html = unescape(read(pages, "demo/v2/index.html"))
    manifest = Snapshot(demo.lake, demo.second.version).manifest.collect()
    shown = [int(path.stem) for path in (pages / "demo" / "v2" / "photos").iterdir()]
    assert len(shown) == site.PHOTOS
    rows = manifest.filter(pl.col("photo_id").is_in(shown))
    assert rows["label"].n_unique() == site.PHOTOS, "as many labels as there is room for"
    for row in rows.iter_rows(named=True):
        assert plain(row["attribution"]) in html
        assert LICENCES[row["license"]].derivatives


def test_a_version_out_of_which_photographs_were_taken_says_so(harmed_demo: Any, tmp_path: Path) -> None:
    old = harmed_demo.second.version
    tombstone = Withdrawal(
        snapshot_id="f" * 64,
        campaign="demo",
        version=2,
        successor=old.snapshot_id,
        removed={"privacy": 1},
        day="2026-11-01",
    )
    harmed_demo.lake.put(refs.withdrawal_key("f" * 64), canonical_json(tombstone))
    build_site(harmed_demo.lake, tmp_path)
    html = read(tmp_path, "demo/v2/index.html")
    assert 'taken out of this version on <time datetime="2026-11-01">' in html and "f" * 64 in html
    assert "taken out of this version" not in read(tmp_path, "demo/v1/index.html")


def test_search_engines_find_the_dataset_in_the_page(pages: Path) -> None:
    page = Page(read(pages, "demo/v2/index.html"))
    (embedded,) = page.embedded
    graph = Graph().parse(data=embedded, format="json-ld")
    schema = Namespace("https://schema.org/")
    address = "https://data.example.org/sets/demo/v2/"
    assert [str(one) for one in graph.subjects(predicate=schema.datePublished)] == [address]
    assert page.all("link", "href") == [address, "dataset.jsonld", "../../icon.svg"]
    assert json.loads(embedded)["image"].startswith(address + "photos/")


def test_the_descriptions_beside_a_page_are_linked_and_there(pages: Path) -> None:
    folder = pages / "demo" / "v2"
    links = Page(read(pages, "demo/v2/index.html")).all("a", "href")
    for name in ("croissant.json", "dataset.jsonld", "datacite.json", "CITATION.cff", "README.md"):
        assert name in links and (folder / name).is_file()
    assert (
        json.loads((folder / "datacite.json").read_bytes())["url"] == "https://data.example.org/sets/demo/v2/"
    )
    for image in Page(read(pages, "demo/v2/index.html")).all("img", "src"):
        assert (folder / image).is_file()


def test_data_is_linked_where_the_lake_is_served(demo: Any, tmp_path: Path, pages: Path) -> None:
    lake = Lake(str(demo.path), Settings(_env_file=None, public_url="https://lake.example.org/"))
    build_site(lake, tmp_path)
    manifest = "https://lake.example.org/catalog/demo/v2/manifest.parquet"
    assert manifest in Page(read(tmp_path, "demo/v2/index.html")).all("a", "href")
    croissant = json.loads((tmp_path / "demo" / "v2" / "croissant.json").read_bytes())
    addresses = [one["contentUrl"] for one in croissant["distribution"] if "contentUrl" in one]
    assert manifest in addresses and all(one.startswith("https://lake.example.org/") for one in addresses)
    hidden = read(pages, "demo/v2/index.html")
    assert "The data itself is not served from here" in hidden and str(demo.path) not in hidden
    assert str(demo.path) not in (pages / "demo" / "v2" / "croissant.json").read_text()


def test_no_page_has_a_script_or_anything_from_elsewhere(pages: Path) -> None:
    for path in pages.rglob("*.html"):
        page = Page(path.read_text(encoding="utf-8"))
        scripts = [attrs for tag, attrs in page.elements if tag == "script"]
        assert all(attrs == {"type": "application/ld+json"} for attrs in scripts)
        policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
        assert policy is not None and policy.startswith(
            "default-src 'none'; img-src 'self'; style-src 'sha256-"
        )
        assert not any("://" in source for source in page.all("img", "src"))
        assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
        assert all(page.all("img", "alt"))
        assert "lang" in page.elements[0][1]


def test_hostile_text_is_text(harmed_demo: Any, tmp_path: Path) -> None:
    lake = renamed(harmed_demo.path, HOSTILE)
    build_site(lake, tmp_path / "site")
    for path in (tmp_path / "site").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert [attrs for tag, attrs in page.elements if tag == "script"] in (
            [],
            [{"type": "application/ld+json"}],
        )
        assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
        assert not any(link.lower().startswith("javascript") for link in page.all("a", "href"))
        assert "49" not in re.findall(r"calc.{0,3}49", text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)
        for embedded in page.embedded:
            assert "alert(1)" in json.loads(embedded)["name"]


# --- the same every time, and nobody else's files


def test_the_same_lake_gives_the_same_site(pages: Path, demo: Any, tmp_path: Path) -> None:
    build_site(demo.lake, tmp_path, url="https://data.example.org/sets")
    assert tree(tmp_path) == tree(pages)


def test_a_refresh_writes_only_what_changed(own: Path, demo: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()}
    (own / "demo" / "v2" / "index.html").write_text("defaced")
    done = build_site(demo.lake, own, url="https://data.example.org/sets")
    assert (done.written, done.deleted) == (1, 0)
    assert done.unchanged == len(before) - 2, "all but that page and the list"
    touched = {path.name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert touched == {"index.html"}


def test_what_a_withdrawn_version_had_is_gone_and_its_page_says_so(
    pages: Path, harmed_demo: Any, own: Path
) -> None:
    harmed_demo.lake.delete(refs.root_key(harmed_demo.first.version.snapshot_id))
    done = build_site(harmed_demo.lake, own, url="https://data.example.org/sets")
    assert done.deleted > site.PHOTOS
    assert [path.name for path in (own / "demo" / "v1").iterdir()] == ["index.html"]
    html = read(own, "demo/v1/index.html")
    assert "This version was withdrawn" in html and '<a href="../v2/index.html">Version 2</a>' in html
    assert "withdrawn; its successor is v2" in read(own, "demo/v2/index.html")
    # And likewise where the name itself is gone.
    harmed_demo.lake.delete("refs/demo/v1")
    assert build_site(harmed_demo.lake, own, url="https://data.example.org/sets").written == 0


def test_files_of_others_stay(own: Path, demo: Any) -> None:
    (own / "demo" / "robots.txt").write_text("mine")
    (own / "demo" / "v1" / "photos" / "mine.jpg").write_text("mine")
    done = build_site(demo.lake, own, url="https://elsewhere.example.org")
    assert done.deleted == 0
    assert read(own, "demo/robots.txt") == read(own, "demo/v1/photos/mine.jpg") == "mine"


def test_a_file_in_the_way_is_not_overwritten(demo: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(UsageError, match=r"index\.html was not made by lakehouse site"):
        build_site(demo.lake, tmp_path)
    assert read(tmp_path, "index.html") == "my home page"


def test_a_run_that_was_interrupted_is_completed(
    pages: Path, demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    whole = os.fsync

    def die(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written == 30:
            raise KeyboardInterrupt
        whole(descriptor)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(site.os, "fsync", die)
        build_site(demo.lake, tmp_path, url="https://data.example.org/sets")
    assert 0 < len(tree(tmp_path)) < len(tree(pages))
    assert not [name for name in tree(tmp_path) if name.endswith(".tmp")]
    build_site(demo.lake, tmp_path, url="https://data.example.org/sets")
    assert tree(tmp_path) == tree(pages)


def test_a_damaged_list_is_told(own: Path, demo: Any) -> None:
    (own / site.RECORD).write_text("[")
    with pytest.raises(UsageError, match="is damaged; remove it"):
        build_site(demo.lake, own)


def test_a_list_cannot_lead_out_of_the_folder(own: Path, demo: Any, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("the only copy")
    listed = json.loads(read(own, site.RECORD))
    listed["../thesis.txt"] = hashlib.sha256(b"the only copy").hexdigest()
    (own / site.RECORD).write_text(json.dumps(listed))
    build_site(demo.lake, own)
    assert victim.read_text() == "the only copy"


def test_only_what_is_asked_for_is_shown(demo: Any, tmp_path: Path) -> None:
    assert build_site(demo.lake, tmp_path, ["demo"]).pages == 4
    with pytest.raises(NotFoundError, match=r"'nobody' has no version .*campaigns there: demo"):
        build_site(demo.lake, tmp_path, ["nobody"])
    with pytest.raises(UsageError, match="is not a web address"):
        build_site(demo.lake, tmp_path, url="javascript:alert(1)")


def test_an_empty_lake_has_an_index(tmp_path: Path) -> None:
    done = build_site(Lake(str(tmp_path / "lake"), Settings(_env_file=None)), tmp_path / "site")
    assert done.pages == 1
    assert "There is no dataset yet" in read(tmp_path / "site", "index.html")
