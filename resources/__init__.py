"""The outside world as Dagster resources, configured from `LAKEHOUSE_*` settings."""

from resources.lake import LakeResource, build_resources

__all__ = ["LakeResource", "build_resources"]
