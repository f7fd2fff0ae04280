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
    REMOVAL,
    annotation,
    biases,
    collection,
    is_synthetic,
    limitations,
    preprocessing,
)
from lakehouse.catalog.statistics import Statistics, human_bytes
from lakehouse.snapshots.model import Root, Version, fates

_TOP_LABELS = 10
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
) -> str:
    """The dataset card of one version as Markdown with YAML front matter.

    Parameters
    ----------
    version, root, statistics, files
        As for `croissant.describe`.
    figures
        Links by name: those of `plots.FIGURES`, and `strip` for the thumbnails. What is absent is left out.
    page
        The dataset's landing page, if it has one.

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
        _structure(statistics, files, drawn),
        _creation(version, root),
        _considerations(root, statistics, drawn),
        _licensing(statistics, licence, drawn),
        _citation(version, root, page),
        f"## Removal\n\n{text(REMOVAL)}",
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
    people = ", ".join(linked(creator.name, creator.url) for creator in version.about.creators)
    rows = [
        ("Curated by", people),
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
        f"## Dataset Details\n\n{lines}\n\nThe content digest covers every photograph's bytes, label, "
        "licence and split "
        "together with the campaign's parameters: two builds with the same digest hold the same data."
        "\n\n### Supported Tasks\n\nImage classification of "
        f"{text(str(root.parameters.get('label', 'taxa')))} labels; long-tailed and hierarchical "
        "classification, as each "
        "label carries its classification from kingdom to genus."
    )


def _structure(statistics: Statistics, files: Sequence[DatasetFile], figures: Mapping[str, str]) -> str:
    shards, photos = of_role(files, "shard"), max(statistics.photos, 1)
    others = [file for file in files if file.role not in ("shard", "figure")]
    layout = layout_of(files)
    photographs, where = _PHOTOGRAPHS[layout]
    total = sum(shard.size for shard in shards)
    listing = [(f"{len(shards):,} {photographs}", layout.value, total)]
    listing += [(f"`{file.name}`", file.role, file.size) for file in others]
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


def _creation(version: Version, root: Root) -> str:
    # A fence longer than any in the text cannot be closed by it; JSON of the parameters escapes newlines
    # besides.
    parameters = json.dumps(root.parameters, ensure_ascii=False, indent=2, sort_keys=True)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", parameters)), default=0))
    accounted = table(
        ("Photographs", "Number"), ((text(name), f"{count:,}") for name, count in fates(version.accounting))
    )
    return "\n\n".join(
        part
        for part in (
            "## Dataset Creation\n\n### Curation Rationale",
            text(version.about.description),
            "### Source Data\n\n#### Data Collection and Processing",
            f"{text(collection(root))} {text(preprocessing(root))}",
            f"The campaign's parameters:\n\n{fence}json\n{parameters}\n{fence}",
            f"How every photograph that was considered fared:\n\n{accounted}" if version.accounting else "",
            "#### Who are the source data producers?",
            "A program." if is_synthetic(root) else "Observers; each is named in `attribution.parquet`.",
            f"### Annotations\n\n{text(annotation(root))}",
            f"### Personal and Sensitive Information\n\n{text(PERSONAL)}",
        )
        if part
    )


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
            "### Recommendations\n\n"
            + bullets(
                [
                    "Report results per label or as macro averages: a few labels rule the plain mean.",
                    "Do not read abundance, trends or ranges from the numbers of photographs.",
                    "Keep to the splits given: photographs of one observation resemble each other.",
                ]
            ),
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
    return "\n\n".join(
        part
        for part in (
            "## Licensing Information",
            "Each photograph keeps the licence its photographer chose, and the dataset as a whole is "
            f"under all of them: `{licence.spdx}`. `attribution.parquet` has creator, licence, source and "
            "changes for each; reuse must give that credit where the licence asks for it.",
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
    source = linked(root.inputs.source, root.inputs.reference_url)
    return (
        f"## Citation\n\n**BibTeX:**\n\n```bibtex\n{bibtex(version, root, page).replace('```', '')}\n```\n\n"
        f"Please cite the source too: {source}, release {text(root.inputs.release)}."
    )
