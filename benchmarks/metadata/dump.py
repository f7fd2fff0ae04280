"""Dumps as iNaturalist Open Data publishes them, at any size: same columns, same skews, same hazards.

Everything follows from the seed, block by block, so that a dump is the same on every machine. Month `m`
is month `m - 1` after the changes of one month: new, deleted and re-identified observations, changed
licences, and a taxonomy that grew, moved and renamed a little.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

BLOCK = 200_000
_GZIP_LEVEL = 6  # the exporter's: gzip's default
_FIRST_DATE = 14_610  # 2010-01-01 in days
# Stands for a quote until the text is written, for the writer refuses one.
_QUOTE = b"\x01"
_NO_QUOTES = csv.WriteOptions(delimiter="\t", include_header=False, quoting_style="none")

HEADERS = {
    "observations": "observation_uuid observer_id latitude longitude positional_accuracy taxon_id "
    "quality_grade "
    "observed_on anomaly_score",
    "observers": "observer_id login name",
    "photos": "photo_uuid photo_id observation_uuid observer_id extension license width height position",
    "taxa": "taxon_id ancestry rank_level rank name active",
}
# Share of taxa by rank (in a thousand), roughly iNaturalist's.
RANKS = {
    ("kingdom", 70.0): 0.006,
    ("phylum", 60.0): 0.06,
    ("subphylum", 57.0): 0.03,
    ("class", 50.0): 0.25,
    ("subclass", 47.0): 0.1,
    ("superorder", 43.0): 0.04,
    ("order", 40.0): 1.2,
    ("suborder", 37.0): 0.25,
    ("infraorder", 35.0): 0.2,
    ("parvorder", 34.5): 0.02,
    ("superfamily", 33.0): 0.6,
    ("family", 30.0): 9.0,
    ("subfamily", 27.0): 4.0,
    ("tribe", 25.0): 6.0,
    ("subtribe", 24.0): 1.5,
    ("genus", 20.0): 110.0,
    ("subgenus", 15.0): 7.0,
    ("section", 13.0): 3.0,
    ("complex", 11.0): 1.0,
    ("species", 10.0): 770.0,
    ("hybrid", 10.0): 8.0,
    ("subspecies", 5.0): 65.0,
    ("variety", 5.0): 13.0,
    ("form", 5.0): 2.0,
}
_MAIN = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
_WORDS = (
    "ba be bi bo bra ca ce chi co cra da de di dro e fa fe fo ga ge gly ho i la le li lo ma me mi mo na ne "
    "ni no o pa pe phi po pri ra re ri ro sa se si so sta ta te thy to tri u va ve vi xa xy za"
)
_SYLLABLES = np.array(_WORDS.split())
_LICENCES = ["CC-BY-NC", "CC-BY", "CC0", "CC-BY-NC-SA", "CC-BY-NC-ND", "CC-BY-SA", "CC-BY-ND", "PD"]
_LICENCE_SHARES = np.cumsum([0.74, 0.12, 0.05, 0.04, 0.03, 0.012, 0.006, 0.002])


@dataclass(frozen=True, slots=True)
class Hazards:
    """How often a row is wrong, as a share of rows.

    `shared` photos are in two observations, `duplicates` are the same row twice, `orphans` belong to no
    exported observation; `malformed` lines are cut, too long, not numbers, not UTF-8 or blank.
    """

    shared: float = 0.001
    duplicates: float = 0.0001
    orphans: float = 0.003
    unknown_taxon: float = 0.002
    malformed: float = 1e-6
    quotes: float = 0.001


@dataclass(frozen=True, slots=True)
class Dump:
    """What is generated: sizes, seed, month and hazards."""

    observations: int = 1_000_000
    taxa: int = 100_000
    seed: int = 1
    month: int = 1
    hazards: Hazards = Hazards()


def write_dump(directory: Path, dump: Dump) -> dict[str, int]:
    """Write the four gzip'd tables to `directory`; returns the lines of each, its header included.

    Files carry the same Last-Modified date within a month and another one in the next.
    """
    directory.mkdir(parents=True, exist_ok=True)
    taxa = _taxa(dump)
    observers = max(10, dump.observations // 80)
    lines = {"taxa": _save(directory, "taxa", iter([_tsv(taxa.table)]), dump)}
    lines["observers"] = _save(directory, "observers", _observers(observers, dump), dump)
    lines |= _observations(directory, dump, taxa, observers)
    moment = 1_785_100_000 + dump.month * 2_678_400
    for name in HEADERS:
        os.utime(directory / f"{name}.csv.gz", (moment, moment))
    return lines


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(key)))


# --- files


class _Gzip:
    """One gzip member, deflated behind the writer's back."""

    def __init__(self, path: Path, header: str, pool: ThreadPoolExecutor) -> None:
        self._stream = path.open("wb")
        self._deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
        self._pool, self._pending = pool, pool.submit(int)
        self.lines = 0
        self.write(("\t".join(header.split()) + "\n").encode())

    def write(self, data: bytes) -> None:
        self.lines += data.count(b"\n")
        self._pending.result()
        self._pending = self._pool.submit(lambda: self._stream.write(self._deflate.compress(data)))

    def close(self) -> int:
        self._pending.result()
        self._stream.write(self._deflate.flush())
        self._stream.close()
        return self.lines


def _save(directory: Path, name: str, blocks: Iterator[bytes], dump: Dump) -> int:
    with ThreadPoolExecutor(1) as pool:
        file = _Gzip(directory / f"{name}.csv.gz", HEADERS[name], pool)
        for block in blocks:
            file.write(block)
        return file.close()


def _tsv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, _NO_QUOTES)
    return sink.getvalue().to_pybytes().replace(_QUOTE, b'"')


def _broken(data: bytes, rate: float, rng: np.random.Generator) -> bytes:
    """`data` with about `rate` of its lines broken, one way or another."""
    count = rng.poisson(data.count(b"\n") * rate)
    if not count:
        return data
    pieces, start = [], 0
    for at in np.sort(rng.integers(0, len(data), count)).tolist():
        line = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        if line < start or end < 0:
            continue
        whole = data[line:end]
        ways = (
            whole[: len(whole) // 2],
            whole + b"\textra",
            whole.replace(b"\t", b"\tx", 1),
            whole[:-3] + b"\xff\xfe",
            b"",
        )
        pieces += [data[start:line], ways[int(rng.integers(len(ways)))], b"\n"]
        start = end + 1
    return b"".join([*pieces, data[start:]])


# --- values


def _hex_text() -> np.ndarray:
    return np.array([list(f"{value:02x}".encode()) for value in range(256)], np.uint8)


_HEX = _hex_text()
_UUID_AT = np.array([0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34])


def _uuids(rng: np.random.Generator, count: int) -> pa.Array:
    raw = rng.integers(0, 256, (count, 16), np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    text = np.full((count, 36), ord("-"), np.uint8)
    for byte, at in enumerate(_UUID_AT.tolist()):
        text[:, at : at + 2] = _HEX[raw[:, byte]]
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * 36)
    return pa.StringArray.from_buffers(count, offsets.buffers()[1], pa.py_buffer(text.tobytes()))


def _decimals(values: np.ndarray) -> pa.Array:
    """Numbers with ten decimals, as numeric(15,10) is written."""
    scaled = np.round(values * 10_000_000_000).astype(np.int64)
    raw = np.stack([scaled, scaled >> 63], axis=1)  # 128 bits, the sign in the upper half
    fixed = pa.Array.from_buffers(pa.decimal128(15, 10), len(values), [None, pa.py_buffer(raw.tobytes())])
    return fixed.cast(pa.string())


def _nullable(values: np.ndarray, missing: np.ndarray) -> pa.Array:
    return pa.array(values, mask=missing)


def _words(rng: np.random.Generator, count: int, syllables: int) -> np.ndarray:
    picked = _SYLLABLES[rng.integers(0, len(_SYLLABLES), (count, syllables))]
    words = picked[:, 0]
    for column in range(1, syllables):
        words = np.char.add(words, picked[:, column])
    return words


# --- taxa


@dataclass(slots=True)
class _Taxa:
    table: pa.Table
    tips: np.ndarray  # ids that are observed, and how often, cumulated
    popularity: np.ndarray


def _taxa(dump: Dump) -> _Taxa:
    ids, parents, ranks, names = _grow(dump, dump.taxa, _rng(dump.seed, 1))
    active = _rng(dump.seed, 2).random(len(ids)) > 0.1
    kinds = list(RANKS)
    # The same ones in every month, so that only what a month changes is another taxon.
    tips = ids[(ranks >= kinds.index(("genus", 20.0))) & active]
    for month in range(2, dump.month + 1):
        ids, parents, ranks, names, active = _taxa_month(dump, month, ids, parents, ranks, names, active)
    ancestry = _ancestry(ids, parents, ranks)
    odd = _rng(dump.seed, 3).random(len(ids))
    ungrafted = (odd < 0.003) & (ranks >= kinds.index(("species", 10.0)))
    dangling = (odd > 0.999) & (ranks >= kinds.index(("species", 10.0)))
    paths = pa.array(
        np.where(
            dangling, np.char.add(ancestry.astype(str), f"/{10**9}"), np.where(ungrafted, "", ancestry)
        ).tolist()
    )
    table = pa.table(
        {
            "taxon_id": np.append(ids, 48460),
            "ancestry": pa.concat_arrays([paths, pa.array([""])]),
            "rank_level": pa.array([f"{kinds[rank][1]:g}" for rank in ranks.tolist()] + ["100"]),
            "rank": pa.array([kinds[rank][0] for rank in ranks.tolist()] + ["stateofmatter"]),
            "name": pa.array([*names.tolist(), "Life"]),
            "active": pa.array(["true" if value else "false" for value in active.tolist()] + ["true"]),
        }
    )
    order = _rng(dump.seed, 4, dump.month).permutation(len(table))
    weights = _rng(dump.seed, 5).lognormal(0, 2.6, len(tips))
    return _Taxa(table.take(pa.array(order)), tips, np.cumsum(weights) / weights.sum())


def _grow(
    dump: Dump, taxa: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids, parents (indices, -1 below the root), ranks (indices of `RANKS`) and names, from the root down."""
    counts = np.maximum(1, np.round(np.array(list(RANKS.values())) * taxa / 1000)).astype(np.int64)
    total = int(counts.sum())
    ids = rng.choice(np.arange(2, 4 * total), total, replace=False).astype(np.int64)
    ids[ids == 48460] = 4 * total + 1
    ranks = np.repeat(np.arange(len(counts)), counts)
    starts = np.r_[0, np.cumsum(counts)]
    names = np.empty(total, object)
    parents = np.full(total, -1, np.int64)
    kinds = [name for name, _ in RANKS]
    for rank in range(len(kinds)):
        first, last = int(starts[rank]), int(starts[rank + 1])
        count = last - first
        if rank:
            above = max(kinds.index(name) for name in _MAIN if kinds.index(name) < rank)
            # Mostly below the last main rank, some below what is between, a few with ranks skipped.
            near = rng.integers(starts[above], starts[above + 1], count)
            between = rng.integers(starts[above], first, count)
            skipped = rng.integers(starts[max(0, above - 2)], first, count)
            chance = rng.random(count)
            parents[first:last] = np.where(chance < 0.8, near, np.where(chance < 0.97, between, skipped))
        words = _words(rng, count, 4 if rank < kinds.index("genus") else 3)
        if rank >= kinds.index("species"):
            above_names = names[parents[first:last]].astype(str)
            names[first:last] = np.char.add(np.char.add(above_names, " "), words)
        else:
            names[first:last] = np.char.capitalize(words)
    quoted = rng.random(total) < dump.hazards.quotes
    names[quoted] = [f"{name} \x01x\x01" for name in names[quoted]]
    return ids, parents, ranks, names


def _taxa_month(
    dump: Dump,
    month: int,
    ids: np.ndarray,
    parents: np.ndarray,
    ranks: np.ndarray,
    names: np.ndarray,
    active: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """One ordinary month: 1.2 % more taxa, 0.1 % moved, 0.1 % renamed, 0.05 % deactivated."""
    rng = _rng(dump.seed, 6, month)
    total, species = len(ids), [name for name, _ in RANKS].index("species")
    moved = np.flatnonzero((rng.random(total) < 0.001) & (ranks == species))
    genera = np.flatnonzero(ranks == species - 4)
    parents, names, active = parents.copy(), names.copy(), active.copy()
    parents[moved] = rng.choice(genera, len(moved))
    renamed = np.flatnonzero((rng.random(total) < 0.001) & (ranks == species))
    names[renamed] = [f"{name}us" for name in names[renamed]]
    active[rng.random(total) < 0.0005] = False
    new = int(total * 0.012)
    fresh = 10**8 * (month - 1) + 1 + np.arange(new)
    below = rng.choice(genera, new)
    words = _words(rng, new, 3)
    return (
        np.r_[ids, fresh],
        np.r_[parents, below],
        np.r_[ranks, np.full(new, species)],
        np.r_[names, np.char.add(np.char.add(names[below].astype(str), " "), words).astype(object)],
        np.r_[active, np.ones(new, np.bool_)],
    )


def _ancestry(ids: np.ndarray, parents: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    paths: list[str] = []
    # Parents come before their children, but for those that moved: all of a rank at a time.
    found: dict[int, str] = {}
    order = np.argsort(ranks, kind="stable")
    above, own = parents.tolist(), ids.tolist()
    for at in order.tolist():
        parent = above[at]
        found[at] = "48460" if parent < 0 else f"{found[parent]}/{own[parent]}"
    paths = [found[at] for at in range(len(ids))]
    return np.array(paths, object)


# --- people, observations, photos


def _observers(count: int, dump: Dump) -> Iterator[bytes]:
    for start in range(0, count, BLOCK):
        rng, size = _rng(dump.seed, 10, start), min(BLOCK, count - start)
        names = np.char.add(np.char.add(_words(rng, size, 2), " \x01"), _words(rng, size, 2))
        table = pa.table(
            {
                "id": np.arange(start + 1, start + size + 1),
                "login": pa.array(_words(rng, size, 4).tolist()),
                "name": pa.array(names.tolist(), mask=rng.random(size) < 0.82),
            }
        )
        yield _tsv(table)


def _observations(directory: Path, dump: Dump, taxa: _Taxa, observers: int) -> dict[str, int]:
    with ThreadPoolExecutor(2) as pool:
        files = {
            name: _Gzip(directory / f"{name}.csv.gz", HEADERS[name], pool)
            for name in ("observations", "photos")
        }
        first_photo = 1000
        for block, size, month in _blocks(dump):
            observations, photos, first_photo = _block(
                dump, taxa, observers, (block, size, month), first_photo
            )
            rng = _rng(dump.seed, 20, block, dump.month)
            rate = dump.hazards.malformed
            files["observations"].write(_broken(_tsv(observations), rate, rng))
            files["photos"].write(_broken(_tsv(photos), rate, rng))
        return {name: file.close() for name, file in files.items()}


def _blocks(dump: Dump) -> Iterator[tuple[int, int, int]]:
    """Number, size and first month of each block; every month adds 2 %."""
    block = 0
    for month in range(1, dump.month + 1):
        left = dump.observations if month == 1 else dump.observations // 50
        while left > 0:
            yield block, min(BLOCK, left), month
            block, left = block + 1, left - BLOCK


def _block(
    dump: Dump, taxa: _Taxa, observers: int, place: tuple[int, int, int], first_photo: int
) -> tuple[pa.Table, pa.Table, int]:
    block, size, born = place
    rng = _rng(dump.seed, 11, block)
    uuids = _uuids(rng, size)
    observer = (observers * rng.random(size) ** 3).astype(np.int64) + 1
    taxon = taxa.tips[np.searchsorted(taxa.popularity, rng.random(size))]
    taxon[rng.random(size) < dump.hazards.unknown_taxon] = 2_000_000_000
    untaxed = rng.random(size) < 0.01
    latitude = np.clip(rng.normal(35, 20, size), -89.9, 89.9)
    longitude = np.mod(rng.normal(-60, 80, size) + 180, 360) - 180
    accuracy = np.round(rng.lognormal(3.5, 2, size)).astype(np.int64) % 1_000_000
    no_accuracy = rng.random(size) < 0.25
    grade = np.searchsorted([0.6, 0.9], rng.random(size))
    day = _FIRST_DATE + np.minimum(6000 * rng.random(size) ** 0.5, 6000).astype(np.int64)
    no_day = rng.random(size) < 0.02
    anomaly, odd = rng.random(size) * 100, rng.random(size) < 0.03
    counts = np.minimum(rng.geometric(0.52, size), 20)
    photos = int(counts.sum())
    of = np.repeat(np.arange(size), counts)
    position = np.arange(photos) - np.repeat(np.cumsum(counts) - counts, counts)
    photo_ids = first_photo + np.cumsum(rng.integers(1, 3, photos))
    licence = np.searchsorted(_LICENCE_SHARES, rng.random(photos) * _LICENCE_SHARES[-1])
    kept, kept_photos = np.ones(size, np.bool_), np.ones(photos, np.bool_)
    for month in range(born + 1, dump.month + 1):
        churn = _rng(dump.seed, 12, block, month)
        changed = churn.random(size) < 0.02
        taxon[changed] = taxa.tips[np.searchsorted(taxa.popularity, churn.random(int(changed.sum())))]
        kept &= churn.random(size) >= 0.004
        swapped = churn.random(photos) < 0.002
        licence[swapped] = (licence[swapped] + 1) % len(_LICENCES)
    kept_photos &= kept[of]
    orphans = rng.random(photos) < dump.hazards.orphans
    text = _uuids(rng, photos)
    extension = np.searchsorted([0.62, 0.97, 0.99], rng.random(photos))
    side = np.array([[2048, 1536], [1536, 2048], [2048, 1365], [1024, 768], [2048, 2048]])[
        np.searchsorted([0.45, 0.7, 0.9, 0.95], rng.random(photos))
    ]
    strange = pa.array(_uuids(rng, int(orphans.sum())))
    owner = uuids.take(pa.array(of)).to_numpy(zero_copy_only=False)
    owner[orphans] = strange.to_numpy(zero_copy_only=False)
    photo_table = pa.table(
        {
            "photo_uuid": text,
            "photo_id": photo_ids,
            "observation_uuid": pa.array(owner),
            "observer_id": observer[of],
            "extension": pa.array(["jpg", "jpeg", "png", "JPG"]).take(pa.array(extension)),
            "license": pa.array(_LICENCES).take(pa.array(licence)),
            "width": side[:, 0],
            "height": side[:, 1],
            "position": position,
        }
    ).filter(pa.array(kept_photos))
    extra = photo_table.filter(pa.array(rng.random(photos)[kept_photos] < dump.hazards.shared))
    others = uuids.take(pa.array(rng.integers(0, size, len(extra))))
    shared = extra.set_column(2, "observation_uuid", others)
    twice = photo_table.filter(pa.array(rng.random(photos)[kept_photos] < dump.hazards.duplicates))
    days = pa.array(day.astype(np.int32), mask=no_day).cast(pa.date32())
    observation_table = pa.table(
        {
            "observation_uuid": uuids,
            "observer_id": observer,
            "latitude": _decimals(latitude),
            "longitude": _decimals(longitude),
            "positional_accuracy": _nullable(accuracy, no_accuracy),
            "taxon_id": _nullable(taxon, untaxed),
            "quality_grade": pa.array(["research", "needs_id", "casual"]).take(pa.array(grade)),
            "observed_on": days,
            "anomaly_score": pa.array(np.round(anomaly, 6), mask=~odd),
        }
    ).filter(pa.array(kept))
    return observation_table, pa.concat_tables([photo_table, shared, twice]), int(photo_ids[-1])
