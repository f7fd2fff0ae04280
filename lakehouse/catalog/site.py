"""Static landing pages: an index of the lake's datasets, and a page for every version that was described.

The pages need no script, load nothing from elsewhere and can be served from any bucket. They follow from the
lake alone, so the same lake gives the same bytes; a refresh writes only what changed, and deletes only what
an earlier run made here and nothing needs any more (`.lakehouse-site.json` lists it).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup
from PIL import Image

from lakehouse.campaign import Creator
from lakehouse.catalog.citation import title
from lakehouse.catalog.croissant import bibtex, describe, semantic, to_json
from lakehouse.catalog.files import DatasetFile, describe_bytes, of_role, resolved
from lakehouse.catalog.licensing import dataset_licence
from lakehouse.catalog.plain import is_web_address, plain
from lakehouse.catalog.publish import citations, tables
from lakehouse.catalog.responsible import REMOVAL, biases, collection, is_synthetic, limitations
from lakehouse.catalog.schema_org import dataset_jsonld
from lakehouse.catalog.sheet import images, shown
from lakehouse.catalog.statistics import Statistics, human_bytes
from lakehouse.catalog.thumbnails import thumbnail
from lakehouse.errors import NotFoundError, UsageError
from lakehouse.lake import Lake
from lakehouse.licences import attribution
from lakehouse.progress import task
from lakehouse.snapshots import refs
from lakehouse.snapshots.model import About, Version, fates
from lakehouse.snapshots.read import Snapshot, catalog_folder

RECORD = ".lakehouse-site.json"
_TEMPLATES = Path(__file__).parent / "templates"
PHOTOS, SIDE = 12, 280
# The order in which a page shows the figures; others come after them.
_FIGURES = ("rank_abundance", "map", "time", "licences", "resolution", "photographers")
_DESCRIPTIONS = (
    ("croissant.json", "Croissant"),
    ("dataset.jsonld", "schema.org"),
    ("datacite.json", "DataCite"),
    ("CITATION.cff", "CITATION.cff"),
    ("README.md", "Dataset card"),
)


@dataclass(frozen=True, slots=True)
class Built:
    """What a run did: pages there are now, files written, left as they were, and deleted."""

    pages: int
    written: int
    unchanged: int
    deleted: int


@dataclass(frozen=True, slots=True)
class _Described:
    """One version with all that pages say of it."""

    snapshot: Snapshot
    statistics: Statistics
    files: tuple[DatasetFile, ...]

    @property
    def version(self) -> Version:
        return self.snapshot.version


def build_site(lake: Lake, directory: Path, campaigns: Sequence[str] = (), url: str | None = None) -> Built:
    """Write the landing pages of a lake's datasets to `directory`, or bring them up to date.

    Parameters
    ----------
    lake
        Where the datasets are; links to their data begin with LAKEHOUSE_PUBLIC_URL, if that is set.
    directory
        The folder to write to. Files of others in it stay.
    campaigns
        Names of the datasets to show; all of them if empty.
    url
        The address at which `directory` will be served: it makes links canonical.

    Raises
    ------
    NotFoundError
        The lake has no such dataset.
    UsageError
        `url` is no web address, or a file that is to be written is there and not from an earlier run.
    """
    if url is not None and not is_web_address(url):
        raise UsageError(f"--url {url!r} is not a web address; give https://...")
    known = [name for name in lake.folders("refs") if refs.latest(lake, name)]
    for name in campaigns:
        if name not in known:
            there = ", ".join(known) or "none"
            raise NotFoundError(f"{name!r} has no version in {lake.root} (campaigns there: {there})")
    chosen = sorted(campaigns or known)
    writer = _Writer(directory)
    cards: list[dict[str, Any]] = []
    with task("site", len(chosen), "dataset") as progress:
        for name in chosen:
            for path, data, card in _dataset(lake, name, url.rstrip("/") if url else None):
                writer.add(path, data)
                cards += [card] if card else []
            progress.advance()
    writer.add("icon.svg", (_TEMPLATES / "icon.svg").read_bytes())
    writer.add("index.html", _render("index.html", cards=cards, side=SIDE))
    return writer.finish()


def _dataset(
    lake: Lake, campaign: str, url: str | None
) -> Iterator[tuple[str, bytes, dict[str, Any] | None]]:
    """Every file of one dataset's pages; with the newest version's page comes its card for the index."""
    described: dict[int, _Described] = {}
    known = {version.version: version for version in refs.versions(lake, campaign)}
    for number, version in known.items():
        try:
            snapshot = Snapshot(lake, version)
            made = tables(snapshot)
        except NotFoundError:  # its root was taken back: nothing of it is shown any more
            continue
        described[number] = _Described(snapshot, made.statistics, made.files)
    numbers = range(1, max(known) + 1)
    history = [_row(number, described) for number in numbers]
    newest = max(described, default=None)
    for number, one in described.items():
        folder = f"{campaign}/v{number}"
        files, page = dict(_version(one, url, folder)), f"{url}/{folder}/" if url else None
        photographs = _shown_photos(one)
        for photo in photographs:
            files[photo["src"]] = photo["data"]
        yield from ((f"{folder}/{name}", data, None) for name, data in files.items())
        html = _page(one, files, photographs, history, newest if newest != number else None, page)
        card = _card(one, photographs, f"{folder}/") if number == newest else None
        yield f"{folder}/index.html", html, card
    name = plain(known[max(known)].about.title) or campaign
    for number in numbers:
        if number not in described:
            successor = _successor(number, described)
            yield (
                f"{campaign}/v{number}/index.html",
                _render("gone.html", campaign=campaign, title=name, number=number, successor=successor),
                None,
            )
    yield f"{campaign}/index.html", _render("versions.html", title=name, history=history[::-1]), None


def _successor(number: int, described: Mapping[int, _Described]) -> int | None:
    """The version that took the place of one that was withdrawn: the next that is there."""
    return min((later for later in described if later > number), default=None)


def _row(number: int, described: Mapping[int, _Described]) -> dict[str, Any]:
    one = described.get(number)
    if one is None:
        return {"number": number, "withdrawn": True, "successor": _successor(number, described)}
    changes = ", ".join(f"{count:,} {kind}" for kind, count in one.version.changes.items() if count)
    return {
        "number": number,
        "withdrawn": False,
        "date": one.version.created_at[:10],
        "photos": f"{one.statistics.photos:,}",
        "labels": f"{len(one.statistics.labels):,}",
        "changes": "first version" if one.version.parent is None else changes or "none",
    }


def _version(one: _Described, url: str | None, folder: str) -> Iterator[tuple[str, bytes]]:
    """The descriptions and figures of a version, by name."""
    snapshot, lake = one.snapshot, one.snapshot.lake
    page = f"{url}/{folder}/" if url else None
    files = _addressed(one)
    croissant = to_json(describe(one.version, snapshot.root, one.statistics, files, page=page))
    yield "croissant.json", croissant
    listed = (*files, describe_bytes(croissant, "croissant.json", "croissant"))
    yield from citations(snapshot, one.statistics, listed, page).items()
    catalog = catalog_folder(one.version)
    for key in lake.list(catalog):
        name = key.removeprefix(f"{catalog}/")
        if name.startswith("figures/") or name == "README.md":
            yield name, lake.get(key)


def _addressed(one: _Described) -> tuple[DatasetFile, ...]:
    """The files with the addresses at which others read them; by digest where nobody can."""
    lake = one.snapshot.lake
    if lake.settings.public_url:
        return resolved(one.files, lake.public_uri(catalog_folder(one.version)))
    return tuple(replace(file, url=f"urn:sha256:{file.sha256}") for file in one.files)


def _shown_photos(one: _Described) -> list[dict[str, Any]]:
    """A few photographs of different labels, as thumbnails with the credit that their licences ask for."""
    lake = one.snapshot.lake
    manifest = pl.scan_parquet(
        lake.uri(f"{catalog_folder(one.version)}/manifest.parquet"), storage_options=lake.storage_options
    )
    photographs = shown(manifest, one.statistics, PHOTOS)
    return [
        {
            "src": (name := f"photos/{photo.photo_id}.jpg"),
            "data": thumbnail(data, SIDE),
            "label": plain(photo.label),
            "credit": plain(attribution(photo.license, photo.creator)),
            "href": photo.observation_url if is_web_address(photo.observation_url) else name,
        }
        for photo, data in zip(photographs, images(one.snapshot, photographs), strict=True)
    ]


def _page(
    one: _Described,
    files: Mapping[str, bytes],
    photos: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    newest: int | None,
    page: str | None,
) -> bytes:
    snapshot, version, statistics = one.snapshot, one.version, one.statistics
    root, inputs = snapshot.root, snapshot.root.inputs
    described = dataset_jsonld(
        version,
        root,
        statistics,
        [file for file in _addressed(one) if file.url.startswith("http")],
        page=page,
        image=f"{page}{photos[0]['src']}" if page and photos else None,
    )
    served = snapshot.lake.settings.public_url is not None
    addressed = [file for file in _addressed(one) if file.role != "shard"]
    shards, licence = of_role(one.files, "shard"), dataset_licence(statistics.licenses)
    creators = [_linked(creator) for creator in version.about.creators]
    span = "unknown"
    if statistics.observed_from and statistics.observed_to:
        first, last = statistics.observed_from.year, statistics.observed_to.year
        span = f"{first}" if first == last else f"{first}–{last}"
    names = ", ".join(plain(creator.name) for creator in version.about.creators)
    cited = (
        f"{names} ({version.created_at[:4]}). {title(version)}. Version {semantic(version)} ({version.ref})."
    )
    return _render(
        "version.html",
        campaign=version.campaign,
        number=version.version,
        title=title(version),
        description=plain(version.about.description),
        summary=plain(version.about.description)[:300],
        date=version.created_at[:10],
        creators=creators,
        newest=newest,
        withdrawn=[
            {"day": one.day, "snapshot_id": one.snapshot_id}
            for one in refs.withdrawals(snapshot.lake)
            if (one.campaign, one.version) == (version.campaign, version.version)
        ],
        synthetic=collection(root) if is_synthetic(root) else None,
        page=page,
        jsonld=_embedded(described),
        facts=[
            ("Photographs", f"{statistics.photos:,}"),
            ("Labels", f"{len(statistics.labels):,}"),
            ("Observations", f"{statistics.observations:,}"),
            ("Photographers", f"{statistics.photographers:,}"),
            ("Observed", span),
            ("Size", statistics.size),
        ],
        photos=photos,
        side=SIDE,
        descriptions=[(name, what) for name, what in _DESCRIPTIONS if name in files],
        files=[
            {
                "name": file.name,
                "url": file.url if served and is_web_address(file.url) else None,
                "sha256": file.sha256,
                "what": _WHAT.get(file.role, file.role),
                "size": human_bytes(file.size),
            }
            for file in addressed
        ],
        archives={
            "count": f"{len(shards):,} archive{'' if len(shards) == 1 else 's'}",
            "size": human_bytes(sum(shard.size for shard in shards)),
        },
        served=served,
        citation=plain(cited),
        bibtex=bibtex(_clean(version), root, page),
        source={
            "name": plain(f"{inputs.source}, release {inputs.release}"),
            "url": inputs.reference_url if is_web_address(inputs.reference_url) else None,
        },
        content_id=root.content_id,
        snapshot_id=version.snapshot_id,
        licences=[
            {
                "title": part.title,
                "url": part.url,
                "photos": f"{statistics.licenses[part.code]:,}",
                "share": f"{statistics.licenses[part.code] / max(statistics.photos, 1):.1%}",
                "commercial": "yes" if part.commercial else "no",
                "adaptations": "no"
                if not part.derivatives
                else "under the same licence"
                if "SA" in part.code
                else "yes",
            }
            for part in licence.parts
        ],
        figures=list(_figures(files, statistics)),
        caveats=[plain(line) for line in (*biases(statistics), *limitations(root, statistics))],
        splits=[(name, f"{count:,}") for name, count in statistics.splits.items()],
        fates=[(_said(name), f"{count:,}") for name, count in fates(version.accounting)],
        history=history[::-1],
        removal=REMOVAL,
    )


def _clean(version: Version) -> Version:
    """The version with every text of others as one clean line."""
    creators = tuple(
        Creator(name=plain(one.name) or "unknown", url=one.url) for one in version.about.creators
    )
    about = About(title=title(version), description=plain(version.about.description), creators=creators)
    return version.model_copy(update={"about": about})


def _said(fate: str) -> str:
    """The name of a fate in words, for example `excluded.per_label_min`."""
    return fate.replace("excluded.", "left out: ").replace("dropped.", "dropped: ").replace("_", " ")


_WHAT = {
    "manifest": "One row per photograph: label, licence, place, date, digest",
    "attribution": "Creator, licence and source of every photograph",
    "credits": "The same as text",
    "taxa": "The labels with their classification",
}


def _figures(files: Mapping[str, bytes], statistics: Statistics) -> Iterator[dict[str, Any]]:
    said = _alternatives(statistics)
    drawn = [PurePosixPath(name).stem for name in files if name.endswith(".png")]
    for name in sorted(drawn, key=lambda name: (name not in _FIGURES, (*_FIGURES, name).index(name), name)):
        with Image.open(io.BytesIO(files[f"figures/{name}.png"])) as image:
            width, height = image.size
        alternative = said.get(name, f"Figure: {name.replace('_', ' ')}")
        yield {"src": f"figures/{name}.png", "width": width, "height": height, "alt": alternative}


def _alternatives(statistics: Statistics) -> dict[str, str]:
    """What each figure shows, for who cannot see it."""
    labels = statistics.labels
    many, few = (labels[0], labels[-1]) if labels else (None, None)
    mix = ", ".join(f"{code} {count:,}" for code, count in statistics.licenses.items())
    box, sides = statistics.box, statistics.side_quantiles
    return {
        "rank_abundance": f"Photographs of each label, from {many.photos:,} of {plain(many.label)} to "
        f"{few.photos:,} of {plain(few.label)}."
        if many and few
        else "Photographs of each label.",
        "map": f"Map of {statistics.located:,} photographs between latitudes {box.south:g} and {box.north:g} "
        f"and longitudes {box.west:g} and {box.east:g}."
        if box
        else "Map without any place.",
        "time": f"Photographs by year and by month, observed from {statistics.observed_from} to "
        f"{statistics.observed_to}."
        if statistics.observed_from
        else "Photographs by year and by month: none has a date.",
        "licences": f"Licences in each split; in all: {mix}.",
        "resolution": f"Photographs by their longest side; the median is {sides['p50']:,} pixels."
        if sides
        else "Photographs by their longest side.",
        "photographers": f"How the photographs are spread over {statistics.photographers:,} photographers: "
        f"the Gini coefficient is {statistics.gini:.2f}.",
    }


def _card(one: _Described, photos: Sequence[Mapping[str, Any]], href: str) -> dict[str, Any]:
    statistics, about = one.statistics, plain(one.version.about.description)
    return {
        "href": href,
        "title": title(one.version),
        "summary": about if len(about) <= 200 else about[:200].rsplit(" ", 1)[0] + "…",
        "counts": f"{statistics.photos:,} photographs · {len(statistics.labels):,} labels · "
        f"version {one.version.version} · {one.version.created_at[:10]}",
        "licences": ", ".join(dataset_licence(statistics.licenses).codes),
        "photos": photos[:4],
    }


def _linked(creator: Creator) -> dict[str, str | None]:
    return {"name": plain(creator.name), "url": creator.url if is_web_address(creator.url) else None}


def _embedded(document: Mapping[str, Any]) -> Markup:
    """JSON that can stand in a script element whatever it says: nothing in it can end the element."""
    text = json.dumps(document, ensure_ascii=False, indent=1)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _render(template: str, **values: Any) -> bytes:
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = ("default-src 'none'", "img-src 'self'", f"style-src 'sha256-{digest}'")
    policy = "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))
    made = _PAGES.get_template(template).render(style=Markup(style), csp=Markup(policy), **values)
    return (made.rstrip("\n") + "\n").encode()


class _Writer:
    """Writes a site's files so that what is there is never half a file, and knows which are its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{directory}: {error.strerror}; give a folder") from None
        self.mine = self._recorded()
        self.made: dict[str, str] = {}
        self.written = self.unchanged = self.pages = 0

    def _recorded(self) -> dict[str, str]:
        try:
            found = json.loads((self.directory / RECORD).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise UsageError(f"{self.directory / RECORD} is damaged; remove it, or give a new folder")
        return found

    def add(self, name: str, data: bytes) -> None:
        """Write one file, unless it is there with these bytes; refuse to overwrite a file of others."""
        path, digest = self.directory / name, hashlib.sha256(data).hexdigest()
        self.made[name] = digest
        self.pages += PurePosixPath(name).suffix == ".html"
        here = _digest(path)
        if here == digest:
            self.unchanged += 1
            return
        if here is not None and name not in self.mine:
            raise UsageError(f"{path} was not made by lakehouse site; move it away, or give another folder")
        # Recorded before it is there: a run that is interrupted leaves no file that the next does not know.
        if name not in self.mine:
            self.mine[name] = digest
            self._record({**self.mine, **self.made})
        _replace(path, data)
        self.written += 1

    def finish(self) -> Built:
        """Delete what earlier runs made and this one did not, unless somebody changed it since."""
        deleted = 0
        for name, digest in sorted(self.mine.items()):
            path = self.directory / name
            if name not in self.made and self.directory in path.resolve().parents and _digest(path) == digest:
                path.unlink()
                deleted += 1
                for folder in path.parents:
                    if folder == self.directory or any(folder.iterdir()):
                        break
                    folder.rmdir()
        self._record(self.made)
        return Built(self.pages, self.written, self.unchanged, deleted)

    def _record(self, made: Mapping[str, str]) -> None:
        data = (json.dumps(dict(sorted(made.items())), indent=1, ensure_ascii=False) + "\n").encode()
        path = self.directory / RECORD
        if not path.exists() or path.read_bytes() != data:
            _replace(path, data)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return ""


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
