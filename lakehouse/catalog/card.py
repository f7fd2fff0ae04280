"""The dataset card: a README.md that people and the Hugging Face Hub read, after the Imageomics template.

Titles, descriptions and names come from campaign files and from the source; they are text, and are escaped
so that they cannot become markup, links or YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from lakehouse.catalog.card_front import Layout, data_pattern, front_matter, layout_of
from lakehouse.catalog.croissant import bibtex, semantic
from lakehouse.catalog.croissant_records import MANIFEST_FIELDS
from lakehouse.catalog.files import DatasetFile, of_role
from lakehouse.catalog.licensing import DatasetLicence, dataset_licence
from lakehouse.catalog.markdown import bullets, figure, linked, table, text
from lakehouse.catalog.responsible import (
    PERSONAL,
    RECOMMENDATIONS,
    annotation,
    annotators,
    biases,
    collection,
    is_synthetic,
    limitations,
    missing,
    preprocessing,
    removal,
)
from lakehouse.catalog.sheet import Shown
from lakehouse.catalog.statistics import Statistics, human_bytes
from lakehouse.snapshots.diff import LabelChanges
from lakehouse.snapshots.model import Root, Version, fates

_TOP_LABELS = 10
_GLOSSARY = {
    "Observation": "One organism met by one person at one place and time; it may have several photographs.",
    "Quality grade": "iNaturalist's: research (with date and place, and two thirds of its identifiers agree "
    "on "
    "a species or finer), needs_id, or casual.",
    "Label": "The taxon a photograph is filed under; what was identified more finely rolls up to it.",
    "Rank": "A level of the classification, such as species or genus.",
    "Gini coefficient": "0 if every photographer took the same number of photographs, near 1 if one took "
    "all.",
    "Content digest": "The sha256 of every photograph's digest, label, licence and split, and of the "
    "campaign's "
    "parameters.",
}
# What a dataset's photographs are called where they are counted, and how one of them is found.
_PHOTOGRAPHS = {
    Layout.archives: (
        "WebDataset shards",
        "named by its `photo_id` in its shard, beside a `.json` of its facts",
    ),
    Layout.folders: ("photographs", "the file that the column `file_name` names"),
    Layout.lake: ("shards", "at `offset` in the shard that the column `shard` names by its sha256"),
}


def render_card(
    version: Version,
    root: Root,
    statistics: Statistics,
    files: Sequence[DatasetFile],
    figures: Mapping[str, str] | None = None,
    page: str | None = None,
    *,
    photographs: Sequence[Shown] = (),
    changed: Sequence[LabelChanges] = (),
) -> str:
    """The dataset card of one version as Markdown with YAML front matter.

    Parameters
    ----------
    version, root, statistics, files
        As for `croissant.describe`.
    figures
        Links by name: those of `plots.FIGURES`, `strip` and `contact_sheet`. What is absent is left out.
    page
        The dataset's landing page, if it has one.
    photographs
        Those on the strip and the contact sheet, in their order; they are credited.
    changed
        What changed for each label since the version before.

    Raises
    ------
    CatalogError
        A photograph has an unknown licence.
    """
    licence, drawn = dataset_licence(statistics.licenses), dict(figures or {})
    parts = [
        front_matter(version, root, statistics, files, licence),
        f"# {text(version.about.title)}",
        _headline(version, root, statistics),
        figure(drawn, "strip", "Photographs of this dataset"),
        _details(version, root, statistics, licence, page),
        _structure(statistics, files, drawn, photographs),
        _creation(version, root, statistics),
        _considerations(root, statistics, drawn),
        _licensing(statistics, licence, drawn),
        _citation(version, root, page),
        _removal(version),
        _changes(version, changed),
        _closing(version, root),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(version: Version, root: Root, statistics: Statistics) -> str:
    span = ""
    if statistics.observed_from and statistics.observed_to:
        span = f", observed {statistics.observed_from.year} to {statistics.observed_to.year}"
    lines = [
        text(version.about.description),
        f"**{statistics.photos:,} photographs** of **{len(statistics.labels):,} labels** by "
        f"{statistics.photographers:,} photographers ({statistics.size}{span}). Version {semantic(version)}.",
    ]
    if is_synthetic(root):
        lines.append(f"> **Synthetic.** {text(collection(root))}")
    return "\n\n".join(lines)


def _details(
    version: Version, root: Root, statistics: Statistics, licence: DatasetLicence, page: str | None
) -> str:
    rows = [
        ("Curated by", _people(version)),
        ("Language", "scientific names; descriptions in English"),
        ("Version", f"{version.ref} ({version.created_at[:10]})"),
        ("Licences", ", ".join(f"[{part.code}]({part.url})" for part in licence.parts)),
        (
            "Source",
            f"{linked(root.inputs.source, root.inputs.reference_url)}, release {text(root.inputs.release)}",
        ),
        ("Content", f"`sha256:{root.content_id}`"),
        ("Snapshot", f"`sha256:{version.snapshot_id}`"),
        *([("Homepage", linked(page, page))] if page else []),
    ]
    lines = "\n".join(f"- **{name}:** {value}" for name, value in rows)
    return (
        f"## Dataset Details\n\n### Dataset Description\n\n{lines}\n\nThe content digest covers every "
        "photograph's bytes, label, "
        "licence and split "
        "together with the campaign's parameters: two builds with the same digest hold the same data."
        "\n\n### Supported Tasks and Leaderboards\n\nImage classification of "
        f"{text(str(root.parameters.get('label', 'taxa')))} labels; long-tailed and hierarchical "
        "classification, as each "
        "label carries its classification from kingdom to genus. There is no leaderboard."
    )


def _people(version: Version) -> str:
    return ", ".join(linked(creator.name, creator.url) for creator in version.about.creators)


def _structure(
    statistics: Statistics,
    files: Sequence[DatasetFile],
    figures: Mapping[str, str],
    photographs: Sequence[Shown],
) -> str:
    shards, photos = of_role(files, "shard"), max(statistics.photos, 1)
    others = [file for file in files if file.role not in ("shard", "figure")]
    layout = layout_of(files)
    kind, where = _PHOTOGRAPHS[layout]
    total = sum(shard.size for shard in shards)
    listing = [(f"{len(shards):,} {kind}", layout.value, total)]
    listing += [(f"`{file.name}`", text(file.description), file.size) for file in others]
    contents = table(
        ("File", "What", "Size"), ((name, what, human_bytes(size)) for name, what, size in listing)
    )
    fields = table(
        ("Column", "Meaning"), ((f"`{field.name}`", text(field.description)) for field in MANIFEST_FIELDS)
    )
    splits = table(
        ("Split", "Photographs", "Share"),
        ((f"`{split}`", f"{count:,}", f"{count / photos:.1%}") for split, count in statistics.splits.items()),
    )
    return "\n\n".join(
        part
        for part in (
            "## Dataset Structure\n\n### Data Instances",
            contents,
            f"A photograph is {where}; `manifest.parquet` says the rest. {_sides(statistics)}".strip(),
            figure(figures, "contact_sheet", "Photographs from the most to the least common label"),
            _credits(photographs),
            figure(figures, "resolution", "Photographs by longest side"),
            "### Data Fields\n\nColumns of `manifest.parquet`:",
            fields,
            "### Data Splits",
            splits,
            "The split of a photograph is decided by a salted hash of its observation: photographs of one "
            "observation stay together, and none changes its split from one version to the next.",
            _loading(statistics, layout),
        )
        if part
    )


def _credits(photographs: Sequence[Shown]) -> str:
    """Who took what is shown, as its licences ask; each number leads to the observation."""
    credits = (
        f"{linked(str(one.photo_id), one.observation_url)} {text(one.creator)} ({one.license})"
        for one in photographs
    )
    return f"Shown, cut to squares: {'; '.join(credits)}." if photographs else ""


def _sides(statistics: Statistics) -> str:
    if not statistics.side_quantiles:
        return ""
    sides = statistics.side_quantiles
    return f"The longest side is {sides['p50']} px in the median ({sides['p0']} to {sides['p100']} px)."


def _loading(statistics: Statistics, layout: Layout) -> str:
    code = ["import polars as pl", 'manifest = pl.scan_parquet("manifest.parquet")']
    if layout is not Layout.folders:
        code += ["", "import mlcroissant"]
        code += ['samples = mlcroissant.Dataset("croissant.json").records("samples")']
    pattern = data_pattern(layout, next(iter(statistics.splits), "train"))
    if pattern:
        kind = "webdataset" if layout is Layout.archives else "imagefolder"
        code += ["", "from datasets import load_dataset"]
        code += [f'images = load_dataset("{kind}", data_files="{pattern}", split="train")']
    return "### Loading\n\n```python\n" + "\n".join(code) + "\n```"


def _creation(version: Version, root: Root, statistics: Statistics) -> str:
    # A fence longer than any in the text cannot be closed by it; JSON of the parameters escapes newlines
    # besides.
    parameters = json.dumps(root.parameters, ensure_ascii=False, indent=2, sort_keys=True)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", parameters)), default=0))
    accounted = table(
        ("Photographs", "Number"),
        ((text(_fate(name)), f"{count:,}") for name, count in fates(version.accounting)),
    )
    return "\n\n".join(
        part
        for part in (
            "## Dataset Creation\n\n### Curation Rationale",
            text(version.about.description),
            "### Source Data\n\n#### Data Collection and Processing",
            f"{text(collection(root))} {text(preprocessing(root))} {text(missing(statistics))}",
            f"The campaign's parameters:\n\n{fence}json\n{parameters}\n{fence}",
            f"How every photograph that was considered fared:\n\n{accounted}" if version.accounting else "",
            "#### Who are the source data producers?",
            "A program." if is_synthetic(root) else "Observers; each is named in `attribution.parquet`.",
            f"### Annotations\n\n#### Annotation process\n\n{text(annotation(root))}",
            f"#### Who are the annotators?\n\n{text(annotators(root))}",
            f"### Personal and Sensitive Information\n\n{text(PERSONAL)}",
        )
        if part
    )


def _fate(name: str) -> str:
    return name.replace(".", ": ").replace("_", " ")


def _considerations(root: Root, statistics: Statistics, figures: Mapping[str, str]) -> str:
    top = table(
        ("Label", "Class", "Photographs"),
        (
            (f"*{text(label.label)}*", text(label.class_ or "unknown"), f"{label.photos:,}")
            for label in statistics.labels[:_TOP_LABELS]
        ),
    )
    return "\n\n".join(
        part
        for part in (
            "## Considerations for Using the Data\n\n### Bias, Risks, and Limitations",
            bullets([*biases(statistics), *limitations(root, statistics)]),
            figure(figures, "rank_abundance", "Photographs per label"),
            f"The labels with the most photographs:\n\n{top}",
            figure(figures, "map", "Where the photographs were taken"),
            figure(figures, "time", "Photographs by year and month of observation"),
            figure(figures, "photographers", "Concentration of photographers"),
            f"### Recommendations\n\n{bullets(RECOMMENDATIONS)}",
        )
        if part
    )


def _licensing(statistics: Statistics, licence: DatasetLicence, figures: Mapping[str, str]) -> str:
    total = max(statistics.photos, 1)
    terms_by_licence = table(
        ("Licence", "Photographs", "Share", "Commercial use", "Adaptations"),
        (
            (
                f"[{part.title}]({part.url})",
                f"{statistics.licenses[part.code]:,}",
                f"{statistics.licenses[part.code] / total:.1%}",
                "yes" if part.commercial else "no",
                _adaptations(part.code, part.derivatives),
            )
            for part in licence.parts
        ),
    )
    terms = []
    if not licence.commercial:
        terms.append("Some photographs must not be used commercially; the `license` column tells which.")
    if not licence.derivatives:
        terms.append("Some photographs must not be shared in adapted form.")
    if licence.share_alike:
        terms.append("Adaptations of some photographs must be shared under the same licence.")
    if not licence.one_adaptation:
        terms.append(
            "No single adapted work may be made of all photographs together, as the licences ask for "
            "different "
            "terms; a collection of them, such as this one, may."
        )
    return "\n\n".join(
        part
        for part in (
            "## Licensing Information",
            "Each photograph keeps the licence its photographer chose, and the dataset as a whole is "
            f"under all of them: `{licence.spdx}`. `attribution.parquet`, and `ATTRIBUTION.txt.gz` for "
            "reading, "
            "have creator, licence, source and changes for each; reuse must give that credit where the "
            "licence asks for it.",
            terms_by_licence,
            " ".join(terms),
            figure(figures, "licences", "Licences in each split"),
        )
        if part
    )


def _adaptations(code: str, derivatives: bool) -> str:
    if not derivatives:
        return "no"
    return "under the same licence" if "SA" in code.split("-") else "yes"


def _citation(version: Version, root: Root, page: str | None) -> str:
    entry = f"**BibTeX:**\n\n```bibtex\n{bibtex(version, root, page).replace('```', '')}\n```"
    if is_synthetic(root):
        return f"## Citation\n\n{entry}"
    source = linked(root.inputs.source, root.inputs.reference_url)
    return (
        f"## Citation\n\n{entry}\n\nPlease cite the source too: {source}, release "
        f"{text(root.inputs.release)}."
    )


def _removal(version: Version) -> str:
    return f"## Removal\n\nTo have a photograph taken out:\n\n{bullets(removal(version.about.creators))}"


def _changes(version: Version, changed: Sequence[LabelChanges]) -> str:
    if version.parent is None:
        return "## Changes\n\nThis is the first version."
    totals = table(("Change", "Photographs"), ((kind, f"{n:,}") for kind, n in version.changes.items()))
    shown = changed[:_TOP_LABELS]
    head = ("Label", "Added", "Removed", "Relabelled", "Relicensed")
    rows = (
        (
            f"*{text(one.label)}*",
            *(f"{n:,}" for n in (one.added, one.removed, one.relabelled, one.relicensed)),
        )
        for one in shown
    )
    most = f"The labels that changed most ({len(shown):,} of {len(changed):,}):\n\n{table(head, rows)}"
    return "\n\n".join(
        part
        for part in (
            f"## Changes\n\nSince the version before (snapshot `sha256:{version.parent}`):",
            totals,
            most if shown else "",
        )
        if part
    )


def _closing(version: Version, root: Root) -> str:
    glossary = "\n".join(f"- **{name}:** {text(meaning)}" for name, meaning in _GLOSSARY.items())
    source = linked(root.inputs.source, root.inputs.reference_url)
    people = f"The photographers and identifiers, and those who make {source} available"
    thanks = "Those who wrote the software" if is_synthetic(root) else people
    return (
        f"## Acknowledgements\n\n{thanks}.\n\n## Glossary\n\n{glossary}\n\n"
        f"## Dataset Card Authors\n\n{_people(version)}; written by the software from the data.\n\n"
        f"## Dataset Card Contact\n\n{_people(version)}"
    )
