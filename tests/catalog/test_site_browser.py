"""The landing pages in a real Chromium, as a phone and as a desktop see them."""

from __future__ import annotations

import functools
import http.server
import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.catalog.site import build_site
from tests.catalog.test_site import HOSTILE, renamed

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE, DESKTOP = (390, 844), (1280, 900)
PAGES = ("index.html", "demo/index.html", "demo/v1/index.html", "demo/v2/index.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


def serve(folder: Path) -> tuple[http.server.ThreadingHTTPServer, str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    while True:
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", random.randrange(20_000, 32_000)), handler)
            break
        except OSError:
            continue
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="module")
def site(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    build_site(demo.lake, folder)
    server, url = serve(folder)
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def hostile(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same site of a dataset whose every text is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(demo.path, folder / "lake")
    lake = renamed(folder / "lake", HOSTILE)
    build_site(lake, folder / "site")
    server, url = serve(folder / "site")
    yield url
    server.shutdown()
    server.server_close()


def look(browser: Any, url: str, size: tuple[int, int], name: str, dark: bool = False) -> dict[str, Any]:
    """Open a page, take it in, and say what is wrong with it."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page, trouble, asked = context.new_page(), [], []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append("a script ran") or dialog.dismiss())
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.evaluate("for (const image of document.images) image.loading = 'eager'")
    page.wait_for_load_state("networkidle")
    found: dict[str, Any] = page.evaluate(
        """() => ({
            wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
            broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
            silent: [...document.images].filter(i => !i.alt).map(i => i.src),
            images: document.images.length,
            levels: [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1]),
            scripts: [...document.scripts].map(s => s.type),
            text: document.body.innerText,
            unnamed: [...document.querySelectorAll('a')]
                .filter(a => !a.innerText.trim() && !a.querySelector('img')).length,
        })"""
    )
    if shots := os.environ.get("SCREENSHOTS"):
        mode = "-dark" if dark else ""
        page.screenshot(path=f"{shots}/{name}-{size[0]}{mode}.png", full_page=True)
    context.close()
    return {**found, "trouble": trouble, "asked": asked}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_loads_and_is_quiet(
    browser: Any, site: str, name: str, size: tuple[int, int], dark: bool
) -> None:
    seen = look(browser, f"{site}/{name}", size, name.replace("/", "-"), dark)
    assert seen["trouble"] == []
    assert seen["wide"] <= 0, "nobody should have to scroll sideways"
    assert (seen["broken"], seen["silent"], seen["unnamed"]) == ([], [], 0)
    assert all(address.startswith(site) for address in seen["asked"]), "nothing comes from elsewhere"
    assert seen["levels"][0] == 1 and seen["levels"].count(1) == 1
    assert all(after - before <= 1 for before, after in zip(seen["levels"], seen["levels"][1:], strict=False))
    assert set(seen["scripts"]) <= {"application/ld+json"}
    if name.startswith("demo/v"):
        assert seen["images"] >= 12


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_is_shown_and_does_nothing(
    browser: Any, hostile: str, name: str, size: tuple[int, int]
) -> None:
    seen = look(browser, f"{hostile}/{name}", size, "hostile-" + name.replace("/", "-"))
    assert seen["trouble"] == []
    assert seen["wide"] <= 0
    assert all(address.startswith(hostile) for address in seen["asked"])
    assert "<script>alert(1)</script>" in seen["text"], "it is shown as what it is"


def test_every_link_within_the_site_leads_somewhere(browser: Any, site: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    seen: set[str]
    to_see, seen = [f"{site}/index.html"], set()
    while to_see:
        url = to_see.pop()
        seen.add(url)
        answer = page.request.get(url)
        assert answer.ok, url
        if url.endswith(".html"):
            page.goto(url)
            links = page.eval_on_selector_all(
                "a[href]", "links => links.map(link => link.href.split('#')[0])"
            )
            to_see += [link for link in set(links) if link.startswith(site) and link not in seen]
    assert len(seen) > 10
    context.close()


def test_the_pages_work_from_a_disk(browser: Any, demo: Any, tmp_path: Path) -> None:
    build_site(demo.lake, tmp_path / "site")
    seen = look(browser, (tmp_path / "site" / "demo" / "v2" / "index.html").as_uri(), DESKTOP, "disk")
    assert (seen["trouble"], seen["broken"]) == ([], [])
