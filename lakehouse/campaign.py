"""The campaign file: what a research team writes, checked as a whole, with errors that name the line."""

from __future__ import annotations

import difflib
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from lakehouse.errors import CampaignError
from lakehouse.licences import LICENCES, PROFILES
from lakehouse.taxon_list import read_taxon_list

# Strict, because YAML's `yes` would be taxon 1, which is all animals.
Taxon = Annotated[int, Field(strict=True, ge=1)] | str
Size = Literal["original", "large", "medium", "small", "thumb", "square"]
# Source: iNaturalist's Taxon::RANK_LEVELS; a label is one of the ranks of the tree.
RANKS = [
    "stateofmatter",
    "kingdom",
    "phylum",
    "subphylum",
    "superclass",
    "class",
    "subclass",
    "infraclass",
    "subterclass",
    "superorder",
    "order",
    "suborder",
    "infraorder",
    "parvorder",
    "zoosection",
    "zoosubsection",
    "superfamily",
    "epifamily",
    "family",
    "subfamily",
    "supertribe",
    "tribe",
    "subtribe",
    "genus",
    "genushybrid",
    "subgenus",
    "section",
    "subsection",
    "complex",
    "species",
    "hybrid",
    "subspecies",
    "variety",
    "form",
    "infrahybrid",
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Creator(_Part):
    """A person or organisation that made the dataset."""

    name: str = Field(min_length=1)
    url: str | None = None


class Subtree(_Part):
    """A taxon with everything under it, less some subtrees."""

    taxon: Taxon
    except_: tuple[Taxon, ...] = Field((), alias="except")


class Observed(_Part):
    """A closed range of observation dates; an observation without a date is outside every range."""

    from_: date | None = Field(None, alias="from")
    to: date | None = None

    @field_validator("from_", "to", mode="before")
    @classmethod
    def _no_number(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError(f"{value} is not a date; write it as 2015-12-31")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Observed:
        if self.from_ and self.to and self.from_ > self.to:
            raise ValueError(f"'from' ({self.from_}) is after 'to' ({self.to})")
        return self


class Where(_Part):
    """Which photos are taken; what is left out is not restricted, but for the licence."""

    quality: tuple[Literal["research", "needs_id", "casual"], ...] = ("research",)
    licenses: tuple[str, ...] = ("CC0", "CC-BY")
    bbox: tuple[float, float, float, float] | None = None
    observed: Observed | None = None
    positional_accuracy_max: float | None = Field(None, gt=0, allow_inf_nan=False)

    @field_validator("licenses", mode="before")
    @classmethod
    def _profile(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in PROFILES:
            close = difflib.get_close_matches(value.lower(), PROFILES, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"licence profile {value!r} is not known; {hint}name one of {', '.join(PROFILES)}, or give a "
                f"list of {', '.join(LICENCES)}"
            )
        return PROFILES[value]

    @field_validator("licenses")
    @classmethod
    def _known_licences(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if not codes:
            raise ValueError(f"name at least one of {', '.join(LICENCES)}")
        for code in codes:
            if code in PROFILES:
                raise ValueError(f"{code} is a profile, not a licence; write 'licenses: {code}' alone")
            if code not in LICENCES:
                close = difflib.get_close_matches(code.upper(), LICENCES, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise ValueError(f"licence {code!r} is not known; {hint}The codes are {', '.join(LICENCES)}")
        return tuple(code for code in LICENCES if code in codes)

    @field_validator("bbox")
    @classmethod
    def _on_earth(
        cls, box: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if box is not None:
            west, south, east, north = box
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
                raise ValueError("bbox is [west, south, east, north] in degrees, with south below north")
        return box


class PerLabel(_Part):
    """Bounds on the number of photos of one label; photos above `max` are dropped by hash, the lowest
    stay. A label that has fewer than `min_per_split` photos in some split is left out."""

    min: int = Field(1, ge=1)
    max: int | None = Field(None, ge=1)
    min_per_split: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> PerLabel:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"'max' ({self.max}) is below 'min' ({self.min})")
        return self


class ImageSpec(_Part):
    """Which rendition of a photo is fetched, and whether its bytes are kept or re-encoded."""

    size: Size = "medium"
    keep: Literal["original"] | None = None
    max_side: int | None = Field(None, ge=16, le=8192)
    format: Literal["jpeg", "webp"] | None = None
    quality: int = Field(90, ge=1, le=100)

    @model_validator(mode="after")
    def _one_way(self) -> ImageSpec:
        if self.keep and (self.max_side or self.format):
            raise ValueError("'keep: original' excludes 'max_side' and 'format'")
        if "quality" in self.model_fields_set and not self.transformed:
            raise ValueError("'quality' needs 'max_side' or 'format': without, the bytes stay as they came")
        return self

    @property
    def transformed(self) -> bool:
        """Whether the stored bytes differ from the fetched ones."""
        return bool(self.max_side or self.format)

    @property
    def slug(self) -> str:
        """The name of this rendition in the lake, for example `medium` or `medium-384-jpeg-q90`."""
        if not self.transformed:
            return self.size
        side = [str(self.max_side)] if self.max_side else []
        return "-".join([self.size, *side, self.format or "jpeg", f"q{self.quality}"])


class Dedupe(_Part):
    """Which copies of a picture are left out: none, those of the same bytes, or those that look the same too.

    `distance` is how many of the 64 bits of two pictures' difference hashes may differ.
    """

    rule: Literal["none", "exact", "near"] = "none"
    distance: int | None = Field(None, ge=0, le=8)

    @model_validator(mode="after")
    def _distance_of_near(self) -> Dedupe:
        if self.distance is not None and self.rule != "near":
            raise ValueError("'distance' needs 'rule: near'")
        return self


class Coordinates(_Part):
    """How coarsely places are published: decimals of a degree (1 is about 11 km)."""

    decimals: int = Field(1, ge=0, le=6)


class PartitionSpec(_Part):
    """How the campaign's taxa are cut into partitions."""

    max_photos: int = Field(50_000, ge=1)


class Gate(_Part):
    """When a run counts as failed although its work is saved."""

    max_failed: float = Field(0.02, ge=0, le=1)


class Freshness(_Part):
    """How many days old the dump behind the dataset may be before Dagster warns, and before it fails."""

    warn_days: int = Field(40, ge=1)
    fail_days: int = Field(60, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Freshness:
        if self.warn_days >= self.fail_days:
            raise ValueError(f"'warn_days' ({self.warn_days}) must be below 'fail_days' ({self.fail_days})")
        return self


class CkanTarget(_Part):
    """The CKAN organisation that owns the entry."""

    organization: str = Field(pattern=r"^[a-z0-9_-]{2,100}$")
    private: bool = False


class HuggingFaceTarget(_Part):
    """The dataset repository on the Hub; `<repo>-metadata` beside it has the manifest."""

    # Source: the Hub's rule for names, less the nine characters of "-metadata".
    repo: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=87)
    private: bool = False

    @field_validator("repo")
    @classmethod
    def _named(cls, repo: str) -> str:
        if "--" in repo or ".." in repo or repo.endswith((".git", "-", ".")):
            raise ValueError(
                f"{repo!r} has '--' or '..', or ends in '.git', '-' or '.'; the Hub refuses that"
            )

        return repo


class Publish(_Part):
    """Where a snapshot is announced."""

    ckan: CkanTarget | None = None
    huggingface: HuggingFaceTarget | None = None


class Campaign(_Part):
    """One dataset to build and keep up to date."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,58}[a-z0-9]$")
    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    creators: tuple[Creator, ...] = Field(min_length=1)
    source: str = "inaturalist"
    taxa: tuple[Taxon | Subtree, ...] = ()
    taxa_file: str | None = None
    taxa_missing: Literal["error", "skip"] = "error"
    label: str = "species"
    where: Where = Where()
    per_label: PerLabel = PerLabel()
    image: ImageSpec = ImageSpec()
    coordinates: Coordinates = Coordinates()
    partition: PartitionSpec = PartitionSpec()
    splits: dict[str, float] = Field({"train": 0.8, "val": 0.1, "test": 0.1}, min_length=1)
    splits_group_by: Literal["observation", "observer"] = "observation"
    dedupe: Dedupe = Dedupe()
    gate: Gate = Gate()
    freshness: Freshness = Freshness()
    publish: Publish = Publish()

    _path: Path | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _group_by_beside_shares(cls, values: Any) -> Any:
        """`splits.group_by` stands among the shares in the file, and beside them here."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "splits_group_by" in values:
            raise ValueError("unknown key 'splits_group_by'; write it as splits: {..., group_by: observer}")
        splits = values.get("splits")
        if isinstance(splits, dict) and "group_by" in splits:
            values["splits_group_by"] = splits["group_by"]
            values["splits"] = {name: share for name, share in splits.items() if name != "group_by"}
        return values

    @field_validator("dedupe", mode="before")
    @classmethod
    def _rule_alone(cls, dedupe: Any) -> Any:
        return {"rule": dedupe} if isinstance(dedupe, str) else dedupe

    @field_validator("label")
    @classmethod
    def _known_rank(cls, label: str) -> str:
        if label not in RANKS:
            close = difflib.get_close_matches(label, RANKS, n=1)
            raise ValueError(
                f"label {label!r} is not a rank"
                + (f"; did you mean {close[0]!r}?" if close else "; try 'species'")
            )
        return label

    @field_validator("splits")
    @classmethod
    def _whole(cls, splits: dict[str, float]) -> dict[str, float]:
        for name, share in splits.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
                raise ValueError(f"split {name!r} must be lower-case letters, digits and '_'")
            if not 0 < share <= 1:
                raise ValueError(f"the share of split {name!r} is {share}; it must be above 0 and at most 1")
        if abs(sum(splits.values()) - 1) > 1e-9:
            raise ValueError(
                f"the shares of the splits add up to {sum(splits.values()):g}; they must add up to 1"
            )
        return splits

    @model_validator(mode="after")
    def _no_derivatives(self) -> Campaign:
        # Whether a smaller copy is an adaptation is disputed, and an ND licence allows none to be shared.
        unalterable = [code for code in self.where.licenses if not LICENCES[code].derivatives]
        if self.image.transformed and unalterable:
            raise ValueError(
                f"'image' re-encodes the photographs, and {', '.join(unalterable)} may not allow that to be "
                "shared; leave these licences out of where.licenses, or take the bytes as they come"
            )
        return self

    @model_validator(mode="after")
    def _some_taxa(self) -> Campaign:
        if bool(self.taxa) == bool(self.taxa_file):
            raise ValueError("name the taxa either in 'taxa' or in 'taxa_file'")
        return self

    @property
    def path(self) -> Path | None:
        """The file this campaign was read from."""
        return self._path

    @property
    def wanted(self) -> tuple[Taxon | Subtree, ...]:
        """The taxa asked for, from `taxa` or from `taxa_file`.

        Raises CampaignError if the file cannot be read or names nothing.
        """
        file = self.taxa_path
        return self.taxa if file is None else tuple(one.taxon for one in read_taxon_list(file))

    @property
    def taxa_path(self) -> Path | None:
        """The file that lists the taxa, if one does; it lies beside the campaign file."""
        if self.taxa_file is None:
            return None
        return (self.path.parent if self.path else Path()) / self.taxa_file

    def parameters(self) -> dict[str, Any]:
        """What decides the data, as plain JSON values: the part of the file that a snapshot's identity
        covers."""
        chosen = {"label", "where", "per_label", "coordinates", "splits"}
        values = self.model_dump(mode="json", by_alias=True, include=chosen)
        wanted = [
            taxon.model_dump(mode="json", by_alias=True) if isinstance(taxon, Subtree) else taxon
            for taxon in self.wanted
        ]
        if self.splits_group_by != "observation":
            values["splits_group_by"] = self.splits_group_by
        if self.dedupe.rule != "none":
            values["dedupe"] = self.dedupe.model_dump(mode="json")
        if self.taxa_missing != "error":
            values["taxa_missing"] = self.taxa_missing
        # A mirror serves the same photographs under the same ids, so its address decides nothing.
        source = "embedded" if self.source == "embedded" else "inaturalist"
        return {**values, "source": source, "taxa": wanted, "image": self.image.slug}


class _Loader(yaml.SafeLoader):
    """YAML in which a date stays text: the model reads it, and can say on which line one is wrong."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_campaign(path: Path) -> Campaign:
    """Read and check a campaign file.

    Raises
    ------
    CampaignError
        The file cannot be read, is not YAML, or breaks a rule; the message names file, line and rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CampaignError(f"campaign file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CampaignError(f"campaign file {path} cannot be read: {error}") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            raise CampaignError(f"{path}: the file is empty; see campaigns/ for examples")
        _refuse_repeated_keys(path, node)
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise CampaignError(f"{where}: not valid YAML: {problem}") from None
    except RecursionError:
        raise CampaignError(f"{path}: not valid YAML: an alias holds itself, or it is too deep") from None
    if not isinstance(values, dict):
        raise CampaignError(f"{path}:1: a campaign file is a mapping such as 'name: pollinators'")
    try:
        campaign = Campaign.model_validate(values)
    except ValidationError as error:
        raise CampaignError(_explain(path, node, error)) from None
    beside = path.parent / campaign.source
    if (
        campaign.source not in ("inaturalist", "embedded")
        and "://" not in campaign.source
        and beside.is_dir()
    ):
        # Like taxa_file, a folder is named as seen from the campaign file.
        campaign = campaign.model_copy(update={"source": str(beside.absolute())})
    campaign._path = path
    return campaign


def load_campaigns(folder: Path) -> dict[str, Campaign]:
    """Every campaign in `folder` (`*.yaml`, `*.yml`) by name; raises CampaignError, also for a name used
    twice."""
    campaigns: dict[str, Campaign] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        campaign = load_campaign(path)
        if campaign.name in campaigns:
            other = campaigns[campaign.name].path
            raise CampaignError(f"{path}: the name {campaign.name!r} is taken by {other}; names must differ")
        campaigns[campaign.name] = campaign
    return campaigns


def _refuse_repeated_keys(path: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise CampaignError(f"{path}:{line}: key {key.value!r} is given twice; keep one")
                seen.add(key.value)
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(path, item)


def _explain(path: Path, node: yaml.Node, error: ValidationError) -> str:
    """One sentence for the first thing that is wrong, naming its line."""
    # A union (id, name or subtree) reports each alternative; the deepest one is what the writer meant.
    problem = max(
        error.errors(include_url=False),
        key=lambda item: (item["type"] == "extra_forbidden", len(item["loc"])),
    )
    loc = problem["loc"]
    if loc[:1] == ("splits_group_by",):
        loc = ("splits", "group_by")
    place, line = _locate(node, loc)
    name = ".".join(place) or "campaign"
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _known_keys(place[:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the keys here are {', '.join(known)}"
        message = f"unknown key {place[-1]!r}; {hint}"
        return f"{path}:{line}: {message}"
    if kind == "missing" and not isinstance(problem["loc"][-1], str):
        return f"{path}:{line}: {name}: too few values"
    if kind == "missing":
        return f"{path}:{line}: {name!r} is missing; it must be given"
    return f"{path}:{line}: {name}: {message}"


def _locate(node: yaml.Node, loc: tuple[int | str, ...]) -> tuple[list[str], int]:
    """The YAML path that `loc` names (pydantic adds names of union members, which are left out) and its
    line."""
    place: list[str] = []
    line = node.start_mark.line + 1
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                    node, line = value, key.start_mark.line + 1
                    place.append(str(step))
                    break
            else:
                if step == loc[-1]:
                    place.append(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
            place.append(str(step))
    return place, line


_MODELS: dict[str, type[BaseModel]] = {
    "where": Where,
    "observed": Observed,
    "per_label": PerLabel,
    "image": ImageSpec,
    "coordinates": Coordinates,
    "partition": PartitionSpec,
    "gate": Gate,
    "freshness": Freshness,
    "publish": Publish,
    "ckan": CkanTarget,
    "huggingface": HuggingFaceTarget,
    "taxa": Subtree,
    "creators": Creator,
}


def _known_keys(place: list[str]) -> list[str]:
    """The keys that may stand where `place` leads."""
    model: type[BaseModel] = Campaign
    for step in place:
        model = _MODELS.get(step, model)
    return [field.alias or name for name, field in model.model_fields.items()]
