"""How the library's errors end a run: one sentence, no stack trace of ours, no pointless retry."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from lakehouse.errors import LakehouseError


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turn a LakehouseError into a Dagster failure that says the same sentence."""
    try:
        yield
    except LakehouseError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def verdict(
    problems: list[str], well: str, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    """A check's result: `well` if there is no problem, else the problems, the first in the description."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return dg.AssetCheckResult(
        passed=not problems,
        severity=severity,
        description=problems[0] + more if problems else well,
        metadata={"problems": dg.MetadataValue.json(problems[:100])} if problems else {},
    )
