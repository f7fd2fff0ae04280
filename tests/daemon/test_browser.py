"""The pages as people see them, in Debian's Chromium. With SCREENSHOTS=docs/images the pictures of the guides
are taken on the way."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lakehouse.lake import open_lake
from lakehouse.settings import Settings
from lakehouse.snapshots import refs
from tests.daemon.conftest import Running

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCATION = "/locations/__repository__@lakehouse"


class Walk:
    """One page of a browser, walking through Dagster."""

    def __init__(self, page: object, url: str, pictures: Path) -> None:
        self.page, self._url, self._pictures = page, url, pictures

    def visit(self, address: str, waits_for: str) -> None:
        """Open a page and wait until it shows a text."""
        self.page.goto(f"{self._url}{address}")
        self.sees(waits_for)

    def sees(self, text: str, seconds: float = 60) -> None:
        """Wait for a text anywhere on the page."""
        playwright.expect(self.page.get_by_text(text, exact=False).first).to_be_visible(
            timeout=seconds * 1000
        )

    def picture(self, name: str) -> None:
        """Take a picture of the page, in few colours, for it is kept in the repository."""
        self.page.wait_for_timeout(700)  # what fades in has done so
        path = self._pictures / f"{name}.png"
        self.page.screenshot(path=str(path))
        with Image.open(path) as image:
            image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


@pytest.fixture
def walk(running: Running, tmp_path: Path) -> Iterator[Walk]:
    """A browser on the running Dagster."""
    if CHROMIUM is None:
        pytest.skip("needs chromium; apt-get install chromium")
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        yield Walk(page, running.dagster.url, pictures)
        browser.close()


def test_the_graph_shows_a_campaign_from_plan_to_catalogue(walk: Walk) -> None:
    walk.visit(f"{LOCATION}/asset-groups/demo/lineage", "dataset_card")
    for asset in ("plan", "selection", "shards", "snapshot", "croissant", "ckan_entry"):
        walk.sees(asset)
    walk.page.mouse.move(640, 430)
    walk.page.get_by_role("button", name=re.compile("zoom in", re.IGNORECASE)).or_(
        walk.page.locator("[data-icon=zoom_in], [aria-label=zoom_in]")
    ).first.click()
    walk.page.wait_for_timeout(1500)
    walk.picture("asset-graph")


def test_a_partitions_page_has_its_counts_its_plot_and_its_photographs(walk: Walk) -> None:
    walk.visit("/assets/demo/shards?view=partitions&partition=insecta-47158", "pictures")
    walk.page.get_by_text("[Show Markdown]").first.click()
    shown = walk.page.locator("img[src^='data:image/']")
    playwright.expect(shown).to_have_count(2, timeout=30_000)
    drawn = shown.evaluate_all("all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    assert all(width > 200 and height > 30 for width, height in drawn), drawn
    walk.picture("partition")


def test_the_snapshots_page_has_its_licences_its_long_tail_and_its_map(walk: Walk) -> None:
    walk.visit("/assets/demo/snapshot?view=events", "licences")
    for name in ("photos per label", "map", "thumbnails", "snapshot_id"):
        walk.sees(name)
    walk.visit("/assets/demo/snapshot", "as one immutable version")
    walk.picture("snapshot")


def test_two_partitions_are_backfilled_from_the_dialog(walk: Walk, running: Running) -> None:
    chosen = running.dagster.partition_states("demo/shards")["materialized"][:2]
    before = len(running.dagster.runs())
    walk.visit("/assets/demo/shards?view=partitions", chosen[0])
    walk.page.get_by_role("button", name="Materialize").first.click()
    walk.sees("Launch runs to materialize")
    field = walk.page.get_by_placeholder("Select a partition or create one")
    field.or_(walk.page.get_by_text("Select a partition or create one")).first.click()
    for key in chosen:
        walk.page.get_by_role("menuitem", name=key).or_(
            walk.page.locator(f"li:has-text('{key}')")
        ).first.click()
    walk.page.keyboard.press("Escape")
    walk.sees("2 partitions")
    walk.picture("backfill")
    walk.page.get_by_role("button", name="Launch backfill").click()

    def done() -> bool:
        new = running.dagster.runs_after(before)
        return bool(new) and all(run["status"] == "SUCCESS" for run in new)

    running.dagster.wait(done, "the backfill's runs", 240)
    walk.visit(f"/assets/demo/shards?view=partitions&partition={chosen[0]}", "Materialized")


def test_the_sensor_ticks_when_the_source_changed(walk: Walk, running: Running) -> None:
    running.month(2)
    walk.visit(f"{LOCATION}/sensors/demo_new_dump", "Starts a refresh when the source serves a dump")
    walk.page.locator("label:has(input[type=checkbox]), [role=switch], .bp5-switch, .bp4-switch").or_(
        walk.page.locator("input[type=checkbox]")
    ).first.click(force=True)
    run = running.dagster.wait(
        lambda: next((tick for tick in running.dagster.ticks("demo_new_dump") if tick["runIds"]), None),
        "a tick that starts a run",
        90,
    )["runIds"][0]
    walk.visit(f"{LOCATION}/sensors/demo_new_dump", "1 run requested")
    walk.picture("sensor")
    assert running.dagster.wait_run(run) == "SUCCESS"


def test_a_licence_that_is_broken_by_hand_fails_its_check(walk: Walk, running: Running) -> None:
    lake = open_lake(str(running.path), Settings(_env_file=None))
    root = refs.read_root(lake, refs.resolve(lake, "demo@latest").snapshot_id)
    path = Path(lake.uri(root.partitions[0].labels.key))
    table = pq.read_table(path)
    licences = ["CC-BY-NC", *table["license"].to_pylist()[1:]]
    place = table.schema.get_field_index("license")
    pq.write_table(table.set_column(place, "license", pa.array(licences, pa.string())), path)
    walk.visit("/assets/demo/snapshot?view=checks&checkDetail=every_photo_licensed", "every_photo_licensed")
    walk.page.get_by_text("Execute", exact=True).first.click()
    walk.sees("1 photos are under 'CC-BY-NC', which is not accepted", seconds=120)
    walk.picture("check")
