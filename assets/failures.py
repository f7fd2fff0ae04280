"""How the library's errors end a run: one sentence, no stack trace of ours, no pointless retry."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from lakehouse.errors import LakehouseError

# Half a minute, one and two: the library itself has been patient with single requests before it gives up.
RETRY = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turn a LakehouseError into a Dagster failure that says the same sentence.

    Only what may pass by itself is tried again, where the definitions allow it.
    """
    try:
        yield
    except LakehouseError as error:
        raise dg.Failure(str(error), allow_retries=error.transient) from error


def verdict(
    problems: list[str],
    well: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    check: dg.AssetCheckKey | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """A check's result: `well` if there is no problem, else the problems, the first in the description.

    `check` names it where one function gives the results of several; `metadata` is shown beside it.
    """
    listed = [text[:500] for text in problems[:100]]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return dg.AssetCheckResult(
        passed=not problems,
        severity=severity,
        description=problems[0] + more if problems else well,
        metadata={
            **(metadata or {}),
            **({"problems": dg.MetadataValue.json(listed)} if problems else {}),
        },
        asset_key=check.asset_key if check else None,
        check_name=check.name if check else None,
    )


def chosen(
    context: dg.AssetCheckExecutionContext, results: Iterable[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult]:
    """Those results that this run asked for, where one function gives those of several checks."""
    wanted = context.selected_asset_check_keys
    for result in results:
        if any((result.asset_key, result.check_name) == (check.asset_key, check.name) for check in wanted):
            yield result
