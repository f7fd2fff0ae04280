"""What is made: thin software-defined assets over `lakehouse/`, their checks, partitions, jobs and the
metadata people look at."""

from assets.campaign import CampaignAssets, build_campaign
from assets.removals import build_removal_job
from assets.source import SourceAssets, build_source

__all__ = ["CampaignAssets", "SourceAssets", "build_campaign", "build_removal_job", "build_source"]
