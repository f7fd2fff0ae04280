"""What can honestly be said of how the data came about and where it falls short: text for Croissant RAI and
the card."""

from __future__ import annotations

from calendar import month_name
from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.campaign import Creator
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
RECOMMENDATIONS = (
    "Report results per label or as macro averages: a few labels rule the plain mean.",
    "Do not read abundance, trends or ranges from the numbers of photographs.",
    "Keep to the splits given: photographs of one observation resemble each other.",
    "Use the newest version: what was withdrawn is no longer in it.",
)
# Every property of the RAI vocabulary, as its specification spells it; of a dataset whose photographs have no
# date the time frame is not known.
PROPERTIES = (
    *("dataCollection", "dataCollectionType", "dataCollectionMissingData", "dataCollectionRawData"),
    *("dataCollectionTimeframe", "dataImputationProtocol", "dataManipulationProtocol"),
    *("dataPreprocessingProtocol", "dataAnnotationProtocol", "dataAnnotationPlatform"),
    *("dataAnnotationAnalysis", "dataReleaseMaintenancePlan", "personalSensitiveInformation"),
    *("dataSocialImpact", "dataBiases", "dataLimitations", "dataUseCases", "annotationsPerItem"),
    *("annotatorDemographics", "machineAnnotationTools"),
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


def missing(statistics: Statistics) -> str:
    """What is not known of some photographs."""
    return (
        f"Of {statistics.photos:,} photographs {statistics.undated:,} have no date and "
        f"{statistics.photos - statistics.located:,} no place. What is missing is left empty."
    )


def annotators(root: Root) -> str:
    """Who gave the labels."""
    if is_synthetic(root):
        return "A program."
    return (
        "Users of the source platform, as observers and as identifiers of others' observations; nothing of "
        "them is recorded here but the photographer's name or login."
    )


def removal(creators: Sequence[Creator]) -> list[str]:
    """How to have a photograph taken out, step by step."""
    whom = ", ".join(f"{one.name} ({one.url})" if one.url else one.name for one in creators)
    return [
        f"Write to those who curate this dataset: {whom}. Name the photographs by their photo_id, or by "
        "their "
        "address or that of the observation, and say that you made them or hold their rights.",
        "Or withdraw a photograph, or change its licence, at the source: it is then not in the next version.",
        REMOVAL,
    ]


def responsible(root: Root, statistics: Statistics) -> dict[str, Any]:
    """The properties of the Croissant RAI vocabulary, spelled and counted as its specification has them."""
    drawn, grades = is_synthetic(root), _listed(root.parameters, "quality")
    decimals = _nested(root.parameters, "coordinates", "decimals")
    rounded = f" Coordinates were rounded to {decimals} decimals." if decimals is not None else ""
    values: dict[str, Any] = {
        "dataCollection": collection(root),
        "dataCollectionType": ["Software Collection"]
        if drawn
        else ["User-generated content data", "Secondary Data analysis"],
        "dataCollectionMissingData": missing(statistics),
        "dataCollectionRawData": f"{root.inputs.source}, release {root.inputs.release}, at "
        f"{root.inputs.reference_url}",
        "dataImputationProtocol": "None: what is missing stays missing.",
        "dataManipulationProtocol": f"{preprocessing(root)}{rounded}",
        "dataPreprocessingProtocol": [
            "Photographs were selected by the campaign's rules, and each one that was considered is counted.",
            "Each was checked to be a whole image; all photographs of an observation are in one split.",
        ],
        "dataAnnotationProtocol": annotation(root),
        "dataAnnotationPlatform": ["None"] if drawn else ["iNaturalist"],
        "dataAnnotationAnalysis": ["None: the label is that of the drawing."]
        if drawn
        else [
            "One label per photograph, that of its observation's community identification; disagreement "
            "among "
            "identifiers is not recorded, and photographs that several observations claim under different "
            "taxa "
            "are left out."
        ],
        # The vocabulary allows many; the reference reader, one.
        "dataReleaseMaintenancePlan": "A new version follows when a release of the source changes the data; "
        f"versions are immutable. {REMOVAL}",
        "personalSensitiveInformation": [PERSONAL],
        "dataSocialImpact": "None is expected of drawn photographs."
        if drawn
        else "Recognising species helps to monitor and protect them; exact places could lead collectors to "
        "rare "
        "ones, which is why places are coarse.",
        "dataBiases": biases(statistics),
        "dataLimitations": limitations(root, statistics),
        "dataUseCases": ["Trying the software"]
        if drawn
        else [
            "Training, validating and testing image classifiers of organisms",
            "Long-tailed and hierarchical classification",
            *RECOMMENDATIONS,
        ],
        "annotationsPerItem": "1"
        if drawn
        else "1, on which "
        + (
            "at least two people agreed (quality grade research)"
            if grades == ["research"]
            else "one or more people agreed"
        ),
        "annotatorDemographics": [annotators(root)],
        "machineAnnotationTools": ["None"]
        if drawn
        else ["iNaturalist offers its users suggestions of a classifier; which were taken is not recorded."],
    }
    if statistics.observed_from and statistics.observed_to:
        span = [statistics.observed_from.isoformat(), statistics.observed_to.isoformat()]
        values["dataCollectionTimeframe"] = span
    found = {f"rai:{name}": values[name] for name in PROPERTIES if name in values}
    # Asked for by venues since 2026, though not yet in the published vocabulary.
    return {**found, "rai:hasSyntheticData": drawn}


def _nested(parameters: Mapping[str, Any], *names: str) -> Any:
    value: Any = parameters
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _listed(parameters: Mapping[str, Any], name: str) -> list[str]:
    values = _nested(parameters, "where", name)
    return [str(value) for value in values] if isinstance(values, list | tuple) else []
