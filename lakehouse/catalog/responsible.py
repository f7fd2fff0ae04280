"""What can honestly be said of how the data came about and where it falls short: text for Croissant RAI and
the card."""

from __future__ import annotations

from calendar import month_name
from collections.abc import Mapping
from typing import Any

from lakehouse.catalog.attribution import changes_of
from lakehouse.catalog.statistics import TOP, Statistics
from lakehouse.snapshots.model import Root

# The source that the project draws itself, so that everything can be tried without a network.
EMBEDDED = "embedded"
RARE = 20  # photographs of a label below which little can be learnt from it

REMOVAL = (
    "Photographs withdrawn at the source leave with the next version. A photographer or rights holder "
    "may ask for removal at any time; the photograph is then taken out of every version, and each "
    "version gets a successor."
)
PERSONAL = (
    "Names or logins of photographers are in the manifest and the attribution table, because the "
    "licences ask for them. Places are published coarsely. Photographs may by accident show people, and "
    "their places may still be near a home."
)


def is_synthetic(root: Root) -> bool:
    """Whether the photographs were drawn by a program and not taken by people."""
    return root.inputs.source == EMBEDDED


def collection(root: Root) -> str:
    """How the photographs came about."""
    if is_synthetic(root):
        return (
            "Taxa, names and identifiers are facts of iNaturalist; the photographs, observations and "
            "observers were drawn by a program for demonstration and show no real organism."
        )
    return (
        "People photographed organisms they met and uploaded them as observations; the community "
        f"identified them. The observations were selected from {root.inputs.reference_url}, release "
        f"{root.inputs.release}."
    )


def annotation(root: Root) -> str:
    """Where the labels came from."""
    if is_synthetic(root):
        return "Each drawn photograph carries the label it was drawn for."
    grades = ", ".join(_listed(root.parameters, "quality")) or "any"
    return (
        "Labels are the community's identifications on the source platform, not checked again; quality "
        f"grades taken: {grades}. They roll up to the rank "
        f"{root.parameters.get('label', 'of the campaign')}."
    )


def preprocessing(root: Root) -> str:
    """What was done to the photographs."""
    return f"Changes to the photographs: {changes_of(str(root.parameters.get('image', 'original')))}."


def biases(statistics: Statistics) -> list[str]:
    """The biases that the numbers show, each one sentence with the number in it."""
    found: list[str] = []
    if not statistics.photos:
        return found
    counts = [label.photos for label in statistics.labels]
    tenth = max(1, len(counts) // 10)
    found.append(
        f"Long tail: the top tenth of the labels ({tenth:,} of {len(counts):,}) hold "
        f"{sum(counts[:tenth]) / statistics.photos:.0%} of the photographs; "
        f"{sum(1 for count in counts if count < RARE):,} labels have fewer than {RARE}."
    )
    if statistics.photographers > TOP:
        found.append(
            f"Photographers: the {TOP} most active of {statistics.photographers:,} took "
            f"{statistics.top_share:.0%} of the photographs (Gini coefficient {statistics.gini:.2f}); their "
            "cameras and habits weigh accordingly."
        )
    if statistics.places:
        cells = sorted((place.photos for place in statistics.places), reverse=True)
        densest = max(1, len(cells) // 10)
        found.append(
            f"Places: the densest tenth of the one-degree cells that have photographs ({densest:,} of "
            f"{len(cells):,}) hold {sum(cells[:densest]) / sum(cells):.0%} of them; places with many "
            "observers weigh accordingly."
        )
    if dated := sum(statistics.months.values()):
        month, most = max(statistics.months.items(), key=lambda item: item[1])
        found.append(
            f"Season: {most / dated:.0%} of the dated photographs were taken in {month_name[month]}."
        )
    if statistics.kingdoms:
        kingdom, most = next(iter(statistics.kingdoms.items()))
        found.append(f"Taxa: {most / statistics.photos:.0%} of the photographs show {kingdom}.")
    return found


def limitations(root: Root, statistics: Statistics) -> list[str]:
    """What the data is not good for."""
    if is_synthetic(root):
        return [
            "The photographs are drawn by a program: they serve to try the software, not to train a model."
        ]
    found = [
        "The number of photographs reflects where people look and what they notice, not abundance.",
        "Identifications can be wrong, more often for organisms that need a microscope or a specimen.",
    ]
    if statistics.undated:
        found.append(f"{statistics.undated:,} photographs have no date.")
    if statistics.photos > statistics.located:
        found.append(f"{statistics.photos - statistics.located:,} photographs have no place.")
    return found


def responsible(root: Root, statistics: Statistics) -> dict[str, Any]:
    """The properties of the Croissant RAI vocabulary, spelled as its specification has them."""
    found: dict[str, Any] = {
        "rai:dataCollection": collection(root),
        "rai:dataCollectionType": ["Software Collection"] if is_synthetic(root) else ["Direct measurement"],
        "rai:dataPreprocessingProtocol": [preprocessing(root)],
        "rai:dataAnnotationProtocol": [annotation(root)],
        "rai:dataBiases": biases(statistics),
        "rai:dataLimitations": limitations(root, statistics),
        "rai:personalSensitiveInformation": [PERSONAL],
        "rai:dataReleaseMaintenancePlan": REMOVAL,
        # Asked for by venues since 2026, though not yet in the published vocabulary.
        "rai:hasSyntheticData": is_synthetic(root),
    }
    if statistics.observed_from and statistics.observed_to:
        span = [statistics.observed_from.isoformat(), statistics.observed_to.isoformat()]
        found["rai:dataCollectionTimeframe"] = span
    return found


def _listed(parameters: Mapping[str, Any], name: str) -> list[str]:
    where = parameters.get("where")
    values = where.get(name) if isinstance(where, Mapping) else None
    return [str(value) for value in values] if isinstance(values, list | tuple) else []
