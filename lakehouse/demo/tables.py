"""The rows of the embedded source: observers, observations and photos of two months, invented from seeds.

Everything is a pure function of (month, photos). The second month is the first one with known changes
(`month_two_changes`), and the places where the rows are broken on purpose are listed too (`hazards`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from lakehouse.demo import taxa as facts
from lakehouse.demo.people import MISSING_OBSERVER, OBSERVERS, RENAMED_OBSERVER, Observer
from lakehouse.demo.rows import Observation, Photo, number_for, observe, photo_counts
from lakehouse.errors import UsageError

MINIMUM_PHOTOS = 300  # below this not every hazard finds a row to live in
UNKNOWN_LICENCE = "CC-BY-XX"
HUGE_ANOMALY = "12345678901234567890.123456"  # seen in December 2025: beyond numeric(15,6)

FAULTS = (
    "404",
    "404",
    "403",
    "503-then-200",
    "503-then-200",
    "truncated-then-200",
    "html",
    "corrupt",
)
_POPULAR = (47219, 48662, 55637, 12727, 47602)


@dataclass(frozen=True, slots=True)
class Hazards:
    """Where the rows are broken on purpose (photo ids, unless the name says otherwise)."""

    faults: dict[int, str]
    duplicates: tuple[int, int]  # two photos, the same bytes
    shared_same_taxon: int  # one photo, two observations that agree
    shared_other_taxon: int  # one photo, two observations that disagree
    orphan: int  # its observation is in no row
    cut_row: int  # the last row of photos.csv, cut short
    overlong_row: int  # a row with a field too many
    unknown_licence: int
    disguised: int  # a .png that holds a JPEG
    other_photographer: int  # photo.observer_id is not the observation's
    missing_observer: int  # its observer is in no row
    missing_taxon: tuple[int, ...]  # their taxon is in no row
    no_taxon: tuple[int, ...]
    position_gap: tuple[int, ...]  # their observation has no photo at position 0
    huge_anomaly: str  # observation uuid


@dataclass(frozen=True, slots=True)
class MonthTwoChanges:
    """What the second month changes: photo ids, sorted, but for the last five."""

    added: tuple[int, ...]
    removed: tuple[int, ...]
    removed_files: tuple[int, ...]  # those of `removed` whose file is gone too
    relabelled: tuple[int, ...]
    relicensed: tuple[int, ...]
    new_taxon: int = facts.NEW_IN_MONTH_TWO
    renamed_taxon: int = facts.RENAMED[0]
    moved_taxon: int = facts.MOVED[0]
    deactivated_taxon: int = facts.DEACTIVATED
    renamed_observer: int = RENAMED_OBSERVER[0]


@dataclass(frozen=True, slots=True)
class Release:
    """One month of the source: its rows in the order of the files, and its broken places."""

    month: int
    observers: tuple[Observer, ...]
    observations: tuple[Observation, ...]
    photos: tuple[Photo, ...]
    hazards: Hazards
    removed_files: frozenset[int] = field(default=frozenset())


class _Draft:
    """The rows of one month while hazards and changes are worked into them."""

    def __init__(self) -> None:
        self.observations: dict[str, Observation] = {}
        self.photos: list[Photo] = []
        self.sizes: Counter[str] = Counter()  # photos per observation
        self.taken: set[str] = set()  # observations that carry a hazard or a change already

    def add(self, observation: Observation, photos: list[Photo]) -> None:
        self.observations[observation.observation_uuid] = observation
        self.photos.extend(photos)
        self.sizes[observation.observation_uuid] += len(photos)

    def repeat(self, photo: Photo, observation_uuid: str) -> None:
        """The same photo in one more observation."""
        self.photos.append(replace(photo, observation_uuid=observation_uuid, position=9))
        self.sizes[observation_uuid] += 1

    def remove(self, photo: Photo) -> None:
        """Take the photo out, and its observation if nothing is left of it (as the exporter does)."""
        self.photos.remove(photo)
        self.sizes[photo.observation_uuid] -= 1
        if not self.sizes[photo.observation_uuid]:
            del self.observations[photo.observation_uuid]

    def take(self, fits: Callable[[Photo, Observation], bool], label: str) -> Photo:
        """The first photo, in an order of its own, of an untouched observation that fits; now touched."""
        fitting = [
            photo
            for photo in self.photos
            if (observation := self.observations.get(photo.observation_uuid))
            and photo.observation_uuid not in self.taken
            and fits(photo, observation)
        ]
        if not fitting:
            raise UsageError(
                f"the embedded source is too small for its hazard {label!r}: ask for more photos"
            )
        photo = min(fitting, key=lambda photo: number_for("take", label, photo.photo_id))
        self.taken.add(photo.observation_uuid)
        return photo

    def of(self, observation_uuid: str) -> list[Photo]:
        return [photo for photo in self.photos if photo.observation_uuid == observation_uuid]

    def change_photo(self, photo: Photo, **changes: object) -> None:
        self.photos[self.photos.index(photo)] = replace(photo, **changes)  # type: ignore[arg-type]

    def change_observation(self, observation_uuid: str, **changes: str) -> None:
        row = self.observations[observation_uuid]
        self.observations[observation_uuid] = replace(row, **changes)  # type: ignore[arg-type]

    def release(self, month: int, observers: tuple[Observer, ...], hazards: Hazards) -> Release:
        """Freeze the rows in the order of the files: a random one, but the broken rows where they belong."""
        photos = sorted(self.photos, key=lambda p: number_for("row", p.photo_id, p.observation_uuid))
        overlong = next(photo for photo in photos if photo.photo_id == hazards.overlong_row)
        cut = next(photo for photo in photos if photo.photo_id == hazards.cut_row)
        photos = [photo for photo in photos if photo not in (overlong, cut)]
        photos.insert(len(photos) // 2, overlong)
        photos.append(cut)
        rows = sorted(self.observations.values(), key=lambda row: number_for("row", row.observation_uuid))
        return Release(month, observers, tuple(rows), tuple(photos), hazards)


def _first_month(photos: int) -> tuple[_Draft, Hazards]:
    draft = _Draft()
    regions = {share.taxon_id: share.region for share in facts.SHARES}
    for taxon_id, count in photo_counts(photos).items():
        for observation, pictures in observe(taxon_id, regions[taxon_id], count):
            draft.add(observation, pictures)

    def open_and_popular(photo: Photo, observation: Observation) -> bool:
        return (
            photo.drawn in _POPULAR
            and photo.license == "CC-BY"
            and observation.quality_grade == "research"
            and photo.extension != "png"
        )

    def anything(photo: Photo, observation: Observation) -> bool:
        return photo.drawn in _POPULAR and photo.license in ("CC-BY", "CC0")

    def later_of_several(photo: Photo, observation: Observation) -> bool:
        return photo.position > 0 and photo.drawn not in (facts.INACTIVE, facts.QUOTED)

    original = draft.take(open_and_popular, "duplicate")
    copy = draft.take(lambda p, o: open_and_popular(p, o) and p.drawn == original.drawn, "duplicate of it")
    shown = {name: getattr(original, name) for name in ("seed", "size", "extension", "width", "height")}
    draft.change_photo(copy, **shown)

    agreeing = draft.take(open_and_popular, "shared, same taxon")
    second = draft.take(lambda p, o: open_and_popular(p, o) and p.drawn == agreeing.drawn, "agrees")
    draft.repeat(agreeing, second.observation_uuid)
    disagreeing = draft.take(lambda p, o: open_and_popular(p, o) and p.drawn == 55637, "shared, other taxon")
    second = draft.take(lambda p, o: open_and_popular(p, o) and p.drawn == 47219, "disagrees")
    draft.repeat(disagreeing, second.observation_uuid)

    faults = {}
    for number, fault in enumerate(FAULTS):
        faults[draft.take(open_and_popular, f"fault {number}").photo_id] = fault
    orphan = draft.take(lambda p, o: anything(p, o) and draft.sizes[o.observation_uuid] == 1, "orphan")
    del draft.observations[orphan.observation_uuid]
    unknown = draft.take(open_and_popular, "unknown licence")
    draft.change_photo(unknown, license=UNKNOWN_LICENCE)
    disguised = draft.take(anything, "disguised")
    draft.change_photo(disguised, extension="png", disguised=True)
    other = draft.take(open_and_popular, "other photographer")
    draft.change_photo(
        other, observer_id=next(o.observer_id for o in OBSERVERS if o.observer_id != other.observer_id)
    )
    stranger = draft.take(lambda p, o: anything(p, o) and draft.sizes[o.observation_uuid] == 1, "no observer")
    draft.change_photo(stranger, observer_id=MISSING_OBSERVER)
    row = draft.observations[stranger.observation_uuid]
    draft.observations[row.observation_uuid] = replace(row, observer_id=MISSING_OBSERVER)

    def retaxed(label: str, taxon_id: str) -> tuple[int, ...]:
        photo = draft.take(anything, label)
        draft.change_observation(photo.observation_uuid, taxon_id=taxon_id)
        return tuple(picture.photo_id for picture in draft.of(photo.observation_uuid))

    missing = (
        *retaxed("missing taxon 1", str(facts.MISSING)),
        *retaxed("missing taxon 2", str(facts.MISSING)),
    )
    untaxed = (*retaxed("no taxon 1", ""), *retaxed("no taxon 2", ""))
    gap = draft.take(later_of_several, "position gap")
    gapped = draft.of(gap.observation_uuid)
    for photo in gapped:
        draft.change_photo(photo, position=photo.position + 1 + (photo.position > 0))
    huge = draft.take(anything, "huge anomaly")
    draft.change_observation(huge.observation_uuid, anomaly_score=HUGE_ANOMALY)
    hazards = Hazards(
        faults=faults,
        duplicates=(original.photo_id, copy.photo_id),
        shared_same_taxon=agreeing.photo_id,
        shared_other_taxon=disagreeing.photo_id,
        orphan=orphan.photo_id,
        cut_row=draft.take(later_of_several, "cut row").photo_id,
        overlong_row=draft.take(later_of_several, "overlong row").photo_id,
        unknown_licence=unknown.photo_id,
        disguised=disguised.photo_id,
        other_photographer=other.photo_id,
        missing_observer=stranger.photo_id,
        missing_taxon=missing,
        no_taxon=untaxed,
        position_gap=tuple(photo.photo_id for photo in gapped),
        huge_anomaly=huge.observation_uuid,
    )
    return draft, hazards


def _second_month(draft: _Draft, photos: int) -> MonthTwoChanges:
    """Work the second month's changes into the first month's rows."""
    left = Counter(photo.drawn for photo in draft.photos)

    def remove(alone: bool, number: int) -> int:
        def fits(photo: Photo, observation: Observation) -> bool:
            several = draft.sizes[observation.observation_uuid] > 1
            return left[photo.drawn] > 4 and several != alone and (alone or photo.position > 0)

        photo = draft.take(fits, f"removed {number} {alone}")
        left[photo.drawn] -= 1
        draft.remove(photo)
        return photo.photo_id

    removed = [remove(alone=number % 2 == 0, number=number) for number in range(12)]

    relabelled: list[int] = []
    for number in range(10):
        wrong, right = facts.RELABELS[number % len(facts.RELABELS)]

        def is_wrong(photo: Photo, observation: Observation, wrong: int = wrong) -> bool:
            return observation.taxon_id == str(wrong)

        photo = draft.take(is_wrong, f"relabelled {number}")
        draft.change_observation(photo.observation_uuid, taxon_id=str(right))
        relabelled.extend(picture.photo_id for picture in draft.of(photo.observation_uuid))

    relicensed: list[int] = []
    swaps = (("CC-BY", "CC-BY-NC"),) * 4 + (("CC-BY-NC", "CC-BY"),) * 3 + (("CC0", "CC-BY"),)
    for number, (before, after) in enumerate(swaps):

        def carries(photo: Photo, observation: Observation, before: str = before) -> bool:
            return photo.license == before and observation.quality_grade == "research"

        photo = draft.take(carries, f"relicensed {number}")
        draft.change_photo(photo, license=after)
        relicensed.append(photo.photo_id)

    regions = {share.taxon_id: share.region for share in facts.SHARES}
    grown = {
        facts.NEW_IN_MONTH_TWO: 8,
        **dict.fromkeys((*_POPULAR, 52774, 47934, 49133, 6930, 47850, 48715), 3),
    }
    added: list[int] = []
    for taxon_id, count in grown.items():
        # Numbered from where no first month reaches, so that its size does not matter.
        for observation, pictures in observe(taxon_id, regions[taxon_id], count, first=100_000):
            draft.add(observation, pictures)
            added.extend(photo.photo_id for photo in pictures)
    return MonthTwoChanges(
        added=tuple(sorted(added)),
        removed=tuple(sorted(removed)),
        removed_files=tuple(sorted(removed[::3] + removed[1::3])),
        relabelled=tuple(sorted(relabelled)),
        relicensed=tuple(sorted(relicensed)),
    )


@lru_cache(maxsize=8)
def _built(month: int, photos: int) -> tuple[Release, MonthTwoChanges | None]:
    if month not in (1, 2):
        raise UsageError(f"the embedded source has the months 1 and 2, not {month}")
    if photos < MINIMUM_PHOTOS:
        raise UsageError(
            f"the embedded source needs {MINIMUM_PHOTOS} photos or more for its hazards, not {photos}"
        )
    draft, broken = _first_month(photos)
    if month == 1:
        return draft.release(1, OBSERVERS, broken), None
    changes = _second_month(draft, photos)
    renamed, name = RENAMED_OBSERVER
    people = tuple(replace(who, name=name) if who.observer_id == renamed else who for who in OBSERVERS)
    return replace(draft.release(2, people, broken), removed_files=frozenset(changes.removed_files)), changes


def release(month: int = 1, photos: int = 1500) -> Release:
    """All rows of one month.

    Parameters
    ----------
    month
        1 or 2.
    photos
        How many photos the first month has (rows shared between observations not counted twice).
    """
    return _built(month, photos)[0]


def hazards(photos: int = 1500) -> Hazards:
    """Where the embedded source of this size is broken on purpose; the same in both months."""
    return _built(1, photos)[0].hazards


def month_two_changes(photos: int = 1500) -> MonthTwoChanges:
    """The known answer: what the second month of this size changes against the first."""
    changes = _built(2, photos)[1]
    assert changes is not None
    return changes
