"""Whatever bytes come, the outcome is an image or a stated reason: no crash, no hang, no blown memory."""

from __future__ import annotations

import io
import resource
import sys
import time

import pytest
from PIL import Image

from lakehouse.campaign import ImageSpec
from lakehouse.images.answers import Answer, Outcome, PhotoRequest, Problem
from lakehouse.images.check import Checker
from lakehouse.images.validate import MAX_PIXELS
from tests.images import corpus, nasty

FILES = corpus.kinds()
NASTY = nasty.files()
OTHER = {
    name for name, data in FILES.items() if name.endswith(".jpg") and not data.startswith(b"\xff\xd8\xff")
}
MODES = {
    "keep": Checker(ImageSpec()),
    "glance": Checker(ImageSpec(), "header"),
    "smaller": Checker(ImageSpec(max_side=48, format="jpeg")),
    "webp": Checker(ImageSpec(format="webp", quality=40)),
}
REASONS = {"corrupt", "wrong_type", "bomb", "empty", "too_large"}
FORGIVEN = {"several.jpg"}  # the first picture of several counts


@pytest.fixture(autouse=True)
def no_noise(recwarn):
    """Pillow warns of what it meets."""


def outcome(mode: str, data: bytes) -> str:
    """`ok` or the reason; whatever is not one of those fails."""
    checked = MODES[mode].check(Answer(PhotoRequest(1, "https://x/1.jpg"), None, body=data))
    if isinstance(checked, Problem):
        assert checked.outcome is Outcome.REJECTED
        assert checked.reason in REASONS
        return checked.reason
    stored, facts = checked
    assert facts.size == len(stored)
    assert 0 < facts.width * facts.height <= MAX_PIXELS
    if mode in ("keep", "glance"):
        assert stored == data
    else:
        with Image.open(io.BytesIO(stored)) as image:
            image.load()
            assert (image.format, image.size) == (facts.format.upper(), (facts.width, facts.height))
    return "ok"


def expected(name: str) -> str:
    if name == "nothing.jpg":
        return "empty"
    return "bomb" if "bomb" in name else "wrong_type" if name in OTHER else "ok"


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_kind_has_its_outcome(name):
    assert {mode: outcome(mode, FILES[name]) for mode in MODES} == dict.fromkeys(MODES, expected(name))


@pytest.mark.parametrize("name", sorted(NASTY))
def test_what_was_made_to_hurt_has_its_outcome_soon(name):
    data, wanted = NASTY[name]
    began = time.monotonic()
    assert {mode: outcome(mode, data) for mode in ("keep", "smaller", "webp")} == dict.fromkeys(
        ("keep", "smaller", "webp"), wanted
    )
    # Looking at the header alone finds less, and nothing else.
    assert outcome("glance", data) in ("ok", wanted)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", sorted(name for name in FILES if expected(name) == "ok"))
def test_a_file_cut_anywhere_is_no_image(name):
    data = FILES[name]
    step = max(1, len(data) // 150)
    kept = {outcome("keep", cut) for cut in corpus.cut_everywhere(data, step)}
    last = {outcome(mode, data[:-back]) for mode in ("keep", "smaller") for back in (1, 2, 3)}
    if name in FORGIVEN:
        assert "ok" in kept | last
    else:
        assert "ok" not in kept | last


def test_harmed_files_are_images_or_not_and_both_ways_agree():
    began = time.monotonic()
    disagree = []
    for name, data in corpus.harmed(FILES, rounds=12, seed=1):
        found = {mode: outcome(mode, data) for mode in MODES}
        # A smaller rendition must find what a look at the original finds, and nothing else.
        if found["keep"] != found["smaller"]:
            disagree.append((name, found))
    assert not disagree
    assert time.monotonic() - began < 120


@pytest.mark.slow
def test_thousands_of_harmed_files_take_no_more_memory():
    for _, data in corpus.harmed(FILES, rounds=5, seed=2):
        outcome("webp", data)
    before = peak()
    for _, data in corpus.harmed(FILES, rounds=100, seed=3):
        for mode in MODES:
            outcome(mode, data)
    assert peak() - before < 300e6


def peak() -> int:
    """Bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_the_harm_is_the_same_every_time():
    assert list(corpus.harmed(FILES, 1, 7)) == list(corpus.harmed(FILES, 1, 7))


@pytest.mark.parametrize(("form", "longest"), [("webp", 16_383), ("jpeg", 65_500)])
def test_what_no_format_can_hold_is_too_large(form, longest):
    for width, wanted in ((longest, "ok"), (longest + 1, "too_large")):
        out = io.BytesIO()
        Image.new("L", (width, 1)).save(out, "PNG")
        checked = Checker(ImageSpec(format=form)).check(
            Answer(PhotoRequest(1, "https://x/1.png"), None, body=out.getvalue())
        )
        assert (checked.reason if isinstance(checked, Problem) else "ok") == wanted
