from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.campaign import Campaign
from lakehouse.errors import NotFoundError
from lakehouse.lake import Lake
from lakehouse.metadata import changes
from lakehouse.metadata.changes import changes_key, diff_photos, fingerprints
from lakehouse.metadata.digests import digest_table
from lakehouse.metadata.partitions import build_plan
from lakehouse.metadata.photos import PhotosReport, digests_key, photos_key
from lakehouse.metadata.schema import CHANGES, DIGESTS, DIGESTS_ENCODING, PHOTOS, PHOTOS_INDEX
from lakehouse.settings import Settings
from tests.metadata.conftest import Bucket

Build = Callable[[Bucket], str]


@dataclass(frozen=True)
class Row:
    """A photo of the table, as far as a change can touch it."""

    taxon_id: int = 1
    license: str | None = "CC0"
    width: int | None = 100
    others: tuple[int, ...] = ()


def write_table(
    lake: Lake,
    release: str,
    rows: Mapping[int, Row],
    shift: int = 0,
    group: int = 100,
    with_digests: bool = True,
) -> None:
    """Make `rows` the photo table of a release, its taxa numbered in one way or another."""
    ordered = sorted(rows.items(), key=lambda item: (item[1].taxon_id, item[0]))
    others = [[uuid.UUID(int=other).bytes for other in row.others] or None for _, row in ordered]
    lists = pa.array(others, pa.list_(pa.binary(16)))
    known: dict[str, object] = {
        "photo_id": [photo_id for photo_id, _ in ordered],
        "lft": [row.taxon_id * 10 + shift for _, row in ordered],
        "taxon_id": [row.taxon_id for _, row in ordered],
        "observation_uuid": [uuid.UUID(int=photo_id).bytes for photo_id, _ in ordered],
        "extension": ["jpg"] * len(ordered),
        "license": [row.license for _, row in ordered],
        "width": [row.width for _, row in ordered],
        "other_observations": pa.ListArray.from_arrays(
            lists.offsets, pa.ExtensionArray.from_storage(pa.uuid(), lists.values), mask=lists.is_null()
        ),
        "taxa_disagree": [False] * len(ordered),
    }
    columns = [known.get(field.name, pa.nulls(len(ordered), field.type)) for field in PHOTOS]
    table = pa.table(columns, schema=PHOTOS)
    key = photos_key("mini", release, "part-00000.parquet")
    with lake.parquet_writer(key, PHOTOS) as writer:
        writer.write_table(table, row_group_size=group)
    lake.delete(digests_key(key))
    if with_digests:
        with lake.parquet_writer(digests_key(key), DIGESTS, **DIGESTS_ENCODING) as writer:
            writer.write_table(digest_table(table), row_group_size=group)
    labels = table["lft"].to_pylist() or [0]
    index = {"file": "part-00000.parquet", "lft_min": labels[0], "lft_max": labels[-1], "rows": len(table)}
    with lake.parquet_writer(photos_key("mini", release, "index.parquet"), PHOTOS_INDEX) as writer:
        writer.write_table(pa.Table.from_pylist([index], schema=PHOTOS_INDEX))
    report = PhotosReport(
        source="mini", release_id=release, raw_rows=len(table), photos=len(table), duplicates=0,
        shared_extra=0, rejected={}, shared=0, disagreeing=0, files=1,
    )  # fmt: skip
    lake.put(f"tables/mini/{release}/photos.json", report.model_dump_json().encode())


def diff(
    lake: Lake,
    before: Mapping[int, Row],
    after: Mapping[int, Row],
    shift: int = 0,
    group: int = 100,
    with_digests: bool = True,
) -> tuple[dict[int, str], changes.ChangesReport]:
    write_table(lake, "one", before, group=group, with_digests=with_digests)
    write_table(lake, "two", after, shift, group)
    with lake.connect() as connection:
        report = diff_photos(lake, "mini", "one", "two", connection)
    rows = lake.read_table(changes_key("mini", "one", "two")).to_pylist()
    found = {row["photo_id"]: row["change"] for row in rows}
    assert len(found) == len(rows) == sum(report.counts.values())
    return found, report


STANDING = {number: Row(taxon_id=number % 3) for number in range(1, 8)}


def test_every_kind_of_change_is_told_apart(lake: Lake) -> None:
    after = {
        **{number: row for number, row in STANDING.items() if number != 1},
        2: replace(STANDING[2], taxon_id=9),
        3: replace(STANDING[3], license="CC-BY"),
        4: replace(STANDING[4], width=None),
        5: replace(STANDING[5], others=(3, 4)),
        8: Row(),
    }
    found, report = diff(lake, STANDING, after)
    assert found == {1: "removed", 2: "relabelled", 3: "relicensed", 4: "other", 5: "other", 8: "added"}
    assert report.counts == {"added": 1, "removed": 1, "relabelled": 1, "relicensed": 1, "other": 2}
    assert report.unchanged == 2
    assert pq.read_schema(lake.uri(changes_key("mini", "one", "two"))).equals(CHANGES)


def test_a_change_shows_what_was_and_what_is(lake: Lake) -> None:
    diff(lake, {1: Row(1, "CC0"), 2: Row(2, None)}, {1: Row(3, "CC-BY"), 2: Row(2, "PD")})
    rows = lake.read_table(changes_key("mini", "one", "two")).sort_by("photo_id").to_pylist()
    assert [list(row.values()) for row in rows] == [
        [1, "relabelled", 1, 3, "CC0", "CC-BY"],
        [2, "relicensed", 2, 2, None, "PD"],
    ]


def test_a_taxonomy_that_was_numbered_anew_changes_no_photo(lake: Lake) -> None:
    found, report = diff(lake, STANDING, STANDING, shift=5)
    assert (found, report.unchanged) == ({}, 7)


def test_the_diff_is_made_once(lake: Lake) -> None:
    _, first = diff(lake, STANDING, {})
    _, again = diff(lake, STANDING, STANDING)
    assert again == first and first.counts["removed"] == 7


def test_a_release_without_photos_cannot_be_compared(lake: Lake, connection: object) -> None:
    with pytest.raises(NotFoundError), lake.connect() as other:
        diff_photos(lake, "mini", "one", "two", other)


def test_ids_that_lie_as_far_apart_as_can_be_are_compared(lake: Lake) -> None:
    far = (1 << 62) + 5
    before = {1: Row(1), 2: Row(2), far: Row(2)}
    found, _ = diff(lake, before, {1: Row(1), 3: Row(1), far: Row(2)})
    assert found == {2: "removed", 3: "added"}


ROWS = st.builds(
    Row,
    st.integers(1, 4),
    st.sampled_from([None, "CC0", "CC-BY"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([(), (7,), (7, 8)]),
)


@st.composite
def edits(draw: st.DrawFn) -> tuple[dict[int, Row], dict[int, Row], dict[int, str]]:
    """A table, the same after some changes, and these changes."""
    before = draw(st.dictionaries(st.integers(1, 60), ROWS, max_size=25))
    after, made = dict(before), {}
    for photo_id in draw(st.sets(st.sampled_from(sorted(before)))) if before else ():
        row, kind = before[photo_id], draw(st.sampled_from([*changes.KINDS[1:]]))
        made[photo_id] = kind
        if kind == "removed":
            del after[photo_id]
        elif kind == "relabelled":
            # Whatever else changes with it: the label counts first.
            after[photo_id] = replace(draw(ROWS), taxon_id=row.taxon_id + 10)
        elif kind == "relicensed":
            after[photo_id] = replace(row, license="PD", width=draw(st.sampled_from([row.width, 9])))
        else:
            after[photo_id] = replace(row, width=77)
    for photo_id in draw(st.sets(st.integers(100, 120), max_size=5)):
        after[photo_id], made[photo_id] = draw(ROWS), "added"
    return before, after, made


@settings(deadline=None, max_examples=40)
@given(edits(), st.integers(1, 20), st.integers(1, 2), st.integers(0, 12), st.booleans())
def test_the_diff_of_changes_that_were_applied_is_these_changes(
    edit: tuple[dict[int, Row], dict[int, Row], dict[int, str]],
    group: int,
    together: int,
    shift: int,
    with_digests: bool,
) -> None:
    before, after, made = edit
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_GROUPS", together)
        found, report = diff(Lake(folder, Settings()), before, after, shift, group, with_digests)
    assert found == made
    assert report.unchanged == len(before) - sum(kind != "added" for kind in made.values())


# --- fingerprints


def test_a_fingerprint_changes_with_its_partition_only(
    lake: Lake,
    bucket: Bucket,
    build: Build,
    campaign: Callable[..., Campaign],
) -> None:
    for number, taxon in enumerate((102, 103, 111), start=1):
        bucket.observe(number, taxon)
        bucket.photograph(number, number)
    asked = campaign(taxa=[102, 103, 111])

    def now() -> dict[str, str]:
        plan = build_plan(lake, asked, "mini", build(bucket))
        return fingerprints(lake, plan)

    first = now()
    assert set(first) == {"rana-una-102", "rana-dua-103", "hyla-una-111"}
    bucket.photos.reverse()
    bucket.observers.append((9, "new", ""))
    bucket.taxa.append((50, "48460/1", 60, "phylum", "Arthropoda", "true"))
    assert now() == first
    bucket.photos = [[*row[:5], "CC0", *row[6:]] if row[1] == 1 else row for row in bucket.photos]
    second = now()
    assert {key for key in first if second[key] != first[key]} == {"rana-una-102"}
    bucket.observe(5, 103)
    bucket.photograph(5, 5)
    third = now()
    assert {key for key in first if third[key] != second[key]} == {"rana-dua-103"}


def test_a_plan_without_photos_has_no_fingerprints(
    lake: Lake,
    bucket: Bucket,
    build: Build,
    campaign: Callable[..., Campaign],
) -> None:
    plan = build_plan(lake, campaign(taxa=[201]), "mini", build(bucket))
    assert fingerprints(lake, plan) == {}
