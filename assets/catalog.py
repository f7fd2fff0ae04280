"""What tells others of the newest snapshot: Croissant, dataset card, CKAN entry."""

import dagster as dg

from assets.failures import told_plainly, verdict
from assets.names import OWNER, asset_key, identifier
from assets.snapshot import newest_snapshot
from lakehouse.campaign import Campaign, CkanTarget, HuggingFaceTarget
from lakehouse.catalog import huggingface, publish
from lakehouse.settings import load_settings
from lakehouse.snapshots.read import Snapshot
from resources.lake import LakeResource


def build_catalog_assets(
    campaign: Campaign, retry: dg.RetryPolicy | None = None
) -> list[dg.AssetsDefinition]:
    """`<campaign>/croissant`, `<campaign>/dataset_card` and, where the campaign publishes there,
    `<campaign>/ckan_entry` and `<campaign>/huggingface`."""
    name, target, hub = campaign.name, campaign.publish.ckan, campaign.publish.huggingface
    group = identifier(name)

    @dg.asset(
        key=asset_key(name, "croissant"),
        deps=[asset_key(name, "snapshot")],
        group_name=group,
        kinds={"json", "croissant"},
        owners=[OWNER],
        description="The newest version described for machines: loaders such as mlcroissant read it.",
    )
    def croissant(lake: LakeResource) -> dg.MaterializeResult:
        with told_plainly():
            newest = newest_snapshot(lake.open(), name)
            page = publish.landing_page(name, target, load_settings())
            return _described(newest, publish.describe_snapshot(newest, page))

    @dg.asset(
        key=asset_key(name, "dataset_card"),
        deps=[asset_key(name, "snapshot")],
        group_name=group,
        kinds={"markdown"},
        owners=[OWNER],
        description="The newest version described for people: what is in it, how it was made.",
    )
    def dataset_card(lake: LakeResource) -> dg.MaterializeResult:
        with told_plainly():
            newest = newest_snapshot(lake.open(), name)
            page = publish.landing_page(name, target, load_settings())
            return _described(newest, publish.write_card(newest, page))

    return [
        croissant,
        dataset_card,
        *([_ckan_entry(campaign, target, retry)] if target else []),
        *([_huggingface(campaign, hub, retry)] if hub else []),
    ]


def _ckan_entry(campaign: Campaign, target: CkanTarget, retry: dg.RetryPolicy | None) -> dg.AssetsDefinition:
    name = campaign.name

    @dg.asset(
        key=asset_key(name, "ckan_entry"),
        deps=[asset_key(name, "croissant"), asset_key(name, "dataset_card")],
        group_name=identifier(name),
        kinds={"ckan"},
        owners=[OWNER],
        description=f"The newest version in the catalogue, in CKAN's organisation “{target.organization}”.",
        retry_policy=retry,
    )
    def ckan_entry(lake: LakeResource) -> dg.MaterializeResult:
        with told_plainly():
            newest = newest_snapshot(lake.open(), name)
            entry = publish.publish_to_ckan(newest, target, load_settings())
        return dg.MaterializeResult(
            data_version=dg.DataVersion(newest.version.snapshot_id),
            metadata={
                "version": newest.version.ref,
                "page": dg.MetadataValue.url(entry.page),
                "changed": entry.changed,
            },
        )

    return ckan_entry


def _huggingface(
    campaign: Campaign, target: HuggingFaceTarget, retry: dg.RetryPolicy | None
) -> dg.AssetsDefinition:
    name = campaign.name

    @dg.asset(
        key=asset_key(name, "huggingface"),
        deps=[asset_key(name, "croissant"), asset_key(name, "dataset_card")],
        group_name=identifier(name),
        kinds={"huggingface"},
        owners=[OWNER],
        description=f"The newest version on the Hugging Face Hub, in “{target.repo}”.",
        retry_policy=retry,
    )
    def on_the_hub(lake: LakeResource) -> dg.MaterializeResult:
        with told_plainly():
            newest = newest_snapshot(lake.open(), name)
            entry = huggingface.publish(newest, target, load_settings())
        return dg.MaterializeResult(
            data_version=dg.DataVersion(newest.version.snapshot_id),
            metadata={
                "version": newest.version.ref,
                "page": dg.MetadataValue.url(entry.page),
                "metadata": dg.MetadataValue.url(entry.metadata_page),
                "files sent": entry.uploaded,
                "bytes sent": entry.bytes,
                "changed": entry.changed,
            },
        )

    return on_the_hub


def build_catalog_checks(campaign: Campaign) -> list[dg.AssetChecksDefinition]:
    """Croissant valid; card complete; CKAN entry equals snapshot."""
    name, target = campaign.name, campaign.publish.ckan

    @dg.asset_check(
        asset=asset_key(name, "croissant"),
        blocking=True,
        description="The Croissant file is valid, without a warning.",
    )
    def croissant_valid(lake: LakeResource) -> dg.AssetCheckResult:
        problems = publish.croissant_problems(newest_snapshot(lake.open(), name))
        return verdict(problems, "mlcroissant accepts it without a warning")

    @dg.asset_check(
        asset=asset_key(name, "dataset_card"),
        description="The card names its version and every licence, and its figures are there.",
    )
    def card_complete(lake: LakeResource) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), name)
        return verdict(publish.card_problems(newest), f"the card describes {newest.version.ref}")

    if target is None:
        return [croissant_valid, card_complete]

    @dg.asset_check(
        asset=asset_key(name, "ckan_entry"), description="The catalogue entry says what the snapshot says."
    )
    def entry_equals_snapshot(lake: LakeResource) -> dg.AssetCheckResult:
        newest = newest_snapshot(lake.open(), name)
        problems = publish.ckan_differences(newest, target, load_settings())
        return verdict(problems, f"the entry describes {newest.version.ref}")

    return [croissant_valid, card_complete, entry_equals_snapshot]


def _described(newest: Snapshot, file: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(newest.version.snapshot_id),
        metadata={"version": newest.version.ref, "file": dg.MetadataValue.path(newest.lake.uri(file))},
    )
