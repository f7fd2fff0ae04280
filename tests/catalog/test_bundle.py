"""An export: a folder that everybody's tools open, and that says the same as the snapshot."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from lakehouse.catalog import bundle
from lakehouse.catalog.bundle import export_dataset
from lakehouse.catalog.croissant_check import validate
from lakehouse.errors import UsageError
from lakehouse.snapshots.export import SIDECAR, Format
from lakehouse.snapshots.read import Snapshot
from lakehouse.snapshots.schema import MANIFEST


@pytest.fixture(scope="session")
def snapshot(demo: Any) -> Snapshot:
    return Snapshot(demo.lake, demo.second.version)


@pytest.fixture(scope="session")
def archives(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snapshot exported as WebDataset."""
    folder = tmp_path_factory.mktemp("archives") / "out"
    export_dataset(snapshot, folder, Format.webdataset)
    return folder


@pytest.fixture(scope="session")
def folders(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snapshot exported as a folder of images."""
    folder = tmp_path_factory.mktemp("folders") / "out"
    export_dataset(snapshot, folder, Format.imagefolder)
    return folder


@pytest.fixture(scope="session")
def manifest(archives: Path) -> pl.DataFrame:
    return pl.read_parquet(archives / "manifest.parquet")


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than all else."""
    monkeypatch.setattr(bundle, "pictures", lambda *arguments: {})


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Hugging Face datasets, offline and quiet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hugging-face")))
        import datasets

        datasets.disable_progress_bars()
        yield datasets


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the digest of its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()) for path in files}


def shards(folder: Path, split: str = "*") -> list[str]:
    return sorted(str(path) for path in (folder / "data").glob(f"{split}-*.tar"))


# --- what is in the folder


def test_an_export_has_all_that_a_dataset_needs(archives: Path) -> None:
    names = {path.name for path in archives.iterdir()}
    assert names == {
        "ATTRIBUTION.txt.gz",
        "CITATION.cff",
        "README.md",
        "attribution.parquet",
        "checksums.txt",
        "croissant.json",
        "data",
        "datacite.json",
        "dataset.jsonld",
        "figures",
        "manifest.parquet",
        "taxa.parquet",
    }


@pytest.mark.parametrize("layout", ["archives", "folders"])
def test_the_checksums_are_those_of_every_file(request: pytest.FixtureRequest, layout: str) -> None:
    folder: Path = request.getfixturevalue(layout)
    lines = (folder / "checksums.txt").read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = tree(folder)
    del found["checksums.txt"]
    assert listed == found


@pytest.mark.parametrize("layout", [Format.webdataset, Format.imagefolder])
def test_the_same_snapshot_is_exported_to_the_same_bytes(
    request: pytest.FixtureRequest, snapshot: Snapshot, tmp_path: Path, layout: Format
) -> None:
    once: Path = request.getfixturevalue("archives" if layout is Format.webdataset else "folders")
    export_dataset(snapshot, tmp_path / "again", layout)
    assert tree(tmp_path / "again") == tree(once)


def test_every_photograph_is_attributed(archives: Path, manifest: pl.DataFrame) -> None:
    table = pl.read_parquet(archives / "attribution.parquet")
    assert table["photo_id"].to_list() == manifest["photo_id"].to_list()
    assert table["attribution"].equals(manifest["attribution"])


def test_nothing_of_this_machine_is_in_the_descriptions(archives: Path, demo: Any) -> None:
    for name in ("README.md", "croissant.json", "checksums.txt"):
        text = (archives / name).read_text(encoding="utf-8")
        assert str(demo.path) not in text
        assert str(archives) not in text


# --- the manifest


def test_the_manifest_is_the_snapshots_but_for_where_images_are(
    snapshot: Snapshot, manifest: pl.DataFrame
) -> None:
    assert manifest.schema == MANIFEST
    placed = ("file_name", "shard", "offset")
    assert manifest.drop(placed).equals(snapshot.manifest.drop(placed).collect())


def test_the_manifest_points_at_the_bytes_in_the_archives(archives: Path, manifest: pl.DataFrame) -> None:
    data = {sha256(Path(path).read_bytes()): Path(path).read_bytes() for path in shards(archives)}
    for row in manifest.iter_rows(named=True):
        image = data[row["shard"]][row["offset"] : row["offset"] + row["size"]]
        assert sha256(image) == row["sha256"]


def test_an_archive_has_the_photos_of_one_split_and_its_digest_in_its_name(
    archives: Path, manifest: pl.DataFrame
) -> None:
    for path in map(Path, shards(archives)):
        mine = manifest.filter(pl.col("shard") == sha256(path.read_bytes()))
        split, number, digest = path.stem.split("-")
        assert mine["split"].unique().to_list() == [split]
        assert (number, digest) == ("000000", mine["shard"][0][:12])


def test_photos_of_an_archive_are_mixed(archives: Path, manifest: pl.DataFrame) -> None:
    in_order = manifest.filter(pl.col("split") == "train").sort("offset")
    assert not in_order["photo_id"].is_sorted()
    assert in_order["label"].head(20).n_unique() > 5


@pytest.mark.usefixtures("without_figures")
def test_a_full_archive_is_followed_by_another(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.snapshots.export.SHARD_PHOTOS", 50)
    export_dataset(snapshot, tmp_path / "out", Format.webdataset)
    sizes = []
    for path in shards(tmp_path / "out", "train"):
        with tarfile.open(path) as tar:
            sizes.append(len(tar.getnames()) // 2)
    assert sizes == [50, 50, 10]
    written = pl.read_parquet(tmp_path / "out" / "manifest.parquet")
    assert written.filter(pl.col("split") == "train")["shard"].n_unique() == 3


# --- samples


def test_every_photo_has_a_sidecar_with_all_keys_and_no_null(archives: Path, manifest: pl.DataFrame) -> None:
    rows = {row["photo_id"]: row for row in manifest.iter_rows(named=True)}
    for path in shards(archives):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    sidecar = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    row = rows.pop(sidecar["photo_id"])
                    assert set(sidecar) == set(SIDECAR)
                    assert None not in sidecar.values()
                    assert sidecar["observed_on"] == str(row["observed_on"] or "")
                    assert sidecar["attribution"] == row["attribution"]
    assert rows == {}


def test_all_images_of_archives_have_one_extension(manifest: pl.DataFrame) -> None:
    """Readers of WebDataset ask for an extension; photographs with another one would not be seen."""
    assert manifest["format"].n_unique() > 1
    assert set(manifest["file_name"].str.split(".").list.last()) == {"jpg"}


@pytest.mark.usefixtures("without_figures")
def test_images_of_one_format_keep_its_extension(harmed_demo: Any, tmp_path: Path) -> None:
    snapshot = Snapshot(harmed_demo.lake, harmed_demo.second.version)
    for shard in snapshot.root.shards:
        index = pl.DataFrame(snapshot.lake.read_table(shard.index.key)).with_columns(
            format=pl.lit("webp"), file_name=pl.format("{}.webp", "photo_id")
        )
        index.write_parquet(snapshot.lake.uri(shard.index.key))
    export_dataset(snapshot, tmp_path / "out", Format.webdataset)
    names = pl.read_parquet(tmp_path / "out" / "manifest.parquet")["file_name"]
    assert set(names.str.split(".").list.last()) == {"webp"}


# --- other people's tools


def test_webdataset_reads_every_photograph(archives: Path, manifest: pl.DataFrame) -> None:
    import webdataset

    samples = list(webdataset.WebDataset(shards(archives), shardshuffle=False))
    found = {int(sample["__key__"]): sha256(sample["jpg"]) for sample in samples}
    assert found == dict(manifest.select("photo_id", "sha256").iter_rows())
    assert {json.loads(sample["json"])["photo_id"] for sample in samples} == set(found)


def test_webdataset_decodes_images_and_labels(archives: Path) -> None:
    import webdataset

    dataset = webdataset.WebDataset(shards(archives), shardshuffle=False).decode("pil")
    for image, facts in dataset.to_tuple("jpg", "json"):
        assert image.size == (facts["width"], facts["height"])


def test_hugging_face_datasets_loads_archives_by_split(
    archives: Path, manifest: pl.DataFrame, datasets: Any, tmp_path: Path
) -> None:
    loaded = datasets.load_dataset(
        "webdataset",
        data_files={split: shards(archives, split) for split in ("train", "val", "test")},
        cache_dir=str(tmp_path / "cache"),
    )
    for split, rows in loaded.items():
        rows = rows.cast_column("jpg", datasets.Image(decode=False))
        found = {row["json"]["photo_id"]: sha256(row["jpg"]["bytes"]) for row in rows}
        assert found == dict(
            manifest.filter(pl.col("split") == split).select("photo_id", "sha256").iter_rows()
        )


def test_hugging_face_datasets_loads_one_split(archives: Path, datasets: Any, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(
        "webdataset", data_files=shards(archives, "val"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded[0]["jpg"].size == (loaded[0]["json"]["width"], loaded[0]["json"]["height"])


@pytest.mark.parametrize("layout", ["archives", "folders"])
def test_hugging_face_datasets_finds_its_way_by_the_card(
    request: pytest.FixtureRequest, manifest: pl.DataFrame, datasets: Any, tmp_path: Path, layout: str
) -> None:
    folder: Path = request.getfixturevalue(layout)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    counts = dict(manifest["split"].value_counts().iter_rows())
    assert {split: rows.num_rows for split, rows in loaded.items()} == counts


def test_hugging_face_datasets_loads_a_folder_of_images(folders: Path, datasets: Any, tmp_path: Path) -> None:
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(folders / "data"), cache_dir=str(tmp_path / "cache")
    )
    labels = loaded["train"].features["label"].names
    manifest = pl.read_parquet(folders / "manifest.parquet")
    assert len(labels) == manifest["label"].n_unique()
    assert "Turdus_merula_12716" in labels
    assert sum(split.num_rows for split in loaded.values()) == manifest.height


@pytest.mark.parametrize("layout", ["manifest", "samples"])
def test_croissant_yields_the_manifest_bit_for_bit(
    archives: Path, manifest: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """All columns of all rows, missing values missing, and with the samples the image described."""
    import mlcroissant
    import mlcroissant._src.operation_graph.operations.extract as extract
    from etils import epath

    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "croissant"))
    records = list(mlcroissant.Dataset(archives / "croissant.json").records(layout))
    rows = [
        {name: plain(record[f"{layout}/{name}"], dtype) for name, dtype in MANIFEST.items()}
        for record in records
    ]
    assert pl.DataFrame(rows, schema=MANIFEST).equals(manifest)
    if layout == "samples":
        images = [sha256(record["samples/image"].fp.getvalue()) for record in records]
        assert images == manifest["sha256"].to_list()


def plain(value: Any, dtype: Any) -> Any:
    """mlcroissant's value as Python has it: its text is bytes, its dates are times, its gaps NaN or NaT."""
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        return value.decode()
    if dtype == pl.Date:
        return value.date()
    if dtype.is_integer():
        assert value == int(value)
        return int(value)
    return value


def test_the_croissant_of_an_export_has_no_problem(archives: Path) -> None:
    assert validate(archives / "croissant.json") == []


# --- a folder of images


def test_a_folder_of_images_has_them_where_the_manifest_says(folders: Path) -> None:
    written = pl.read_parquet(folders / "manifest.parquet")
    for row in written.iter_rows(named=True):
        image = (folders / row["file_name"]).read_bytes()
        assert sha256(image) == row["sha256"]
        assert (row["shard"], row["offset"], row["size"]) == ("", 0, len(image))


def test_a_folder_of_images_is_by_split_and_label(folders: Path) -> None:
    written = pl.read_parquet(folders / "manifest.parquet")
    row = written.filter(pl.col("label") == "Turdus merula").row(0, named=True)
    assert row["file_name"] == f"data/{row['split']}/Turdus_merula_12716/{row['photo_id']}.jpg"
    on_disk = {str(path.relative_to(folders)) for path in (folders / "data").rglob("*") if path.is_file()}
    assert on_disk == set(written["file_name"])


def test_an_image_in_a_folder_is_what_its_extension_says(folders: Path) -> None:
    for path in (folders / "data").rglob("*.png"):
        assert Image.open(io.BytesIO(path.read_bytes())).format == "PNG"


# --- whole or nothing


def test_a_folder_that_is_not_empty_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="out is not empty; give a new folder"):
        export_dataset(snapshot, tmp_path / "out", Format.webdataset)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_file_in_the_way_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("keep me")
    with pytest.raises(UsageError, match="give a new folder"):
        export_dataset(snapshot, tmp_path / "out", Format.webdataset)
    assert (tmp_path / "out").read_text() == "keep me"


@pytest.mark.usefixtures("without_figures")
def test_an_interrupted_export_leaves_no_folder_and_can_be_repeated(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **more: object) -> str:
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bundle, "render_card", interrupt)
        export_dataset(snapshot, tmp_path / "out", Format.webdataset)
    assert list((tmp_path / "out").iterdir()) == []
    export_dataset(snapshot, tmp_path / "out", Format.webdataset)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
