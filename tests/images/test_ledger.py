"""The ledger: the latest outcome of every photo, whoever writes at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import DeltaTable

from lakehouse.images.answers import Outcome
from lakehouse.images.ledger import Ledger, LedgerRow, ledger_rows
from lakehouse.images.schema import LEDGER
from lakehouse.lake import Lake

NOON = datetime(2025, 11, 1, 12, tzinfo=UTC)


def row(photo_id, outcome=Outcome.STORED, minutes=0, **values):
    defaults = {"source": "inat", "rendition": "medium", "reason": "ok", "http_status": 200, "attempts": 1}
    moment = NOON + timedelta(minutes=minutes)
    return LedgerRow(photo_id=photo_id, outcome=outcome, first_at=NOON, last_at=moment, **(defaults | values))


@pytest.fixture
def ledger(lake):
    return Ledger(lake)


def outcomes(ledger, *photo_ids, source="inat", rendition="medium"):
    frame = ledger.outcomes(source, rendition, pl.Series(photo_ids, dtype=pl.Int64))
    return dict(frame.select("photo_id", "outcome").iter_rows())


def test_before_the_first_row_nothing_is_known(ledger):
    frame = ledger.outcomes("inat", "medium", pl.Series([1, 2]))
    assert frame.is_empty()
    assert frame.columns == LEDGER.names


def test_no_photos_asked_for_none_known(ledger):
    ledger.record(ledger_rows([row(1)]))
    assert outcomes(ledger) == {}


def test_the_columns_and_types_are_those_of_the_schema(ledger, lake):
    ledger.record(ledger_rows([row(1, sha256=bytes(32), shard="ab", size=5, etag='"x"')]))
    table = DeltaTable(lake.uri("ledger"))
    written = {field.name: str(field.type.type) for field in table.schema().fields}
    assert list(written) == LEDGER.names
    frame = ledger.outcomes("inat", "medium", pl.Series([1]))
    assert frame.schema == pl.DataFrame(LEDGER.empty_table()).schema
    assert frame.row(0, named=True)["sha256"] == bytes(32)


def test_the_latest_row_counts(ledger):
    ledger.record(ledger_rows([row(1, Outcome.FAILED), row(2, Outcome.GONE)]))
    ledger.record(ledger_rows([row(1, Outcome.STORED, minutes=5)]))
    ledger.record(ledger_rows([row(2, Outcome.FAILED, minutes=-5)]))
    assert outcomes(ledger, 1, 2) == {1: "stored", 2: "gone"}


def test_at_the_same_time_stored_counts(ledger):
    ledger.record(ledger_rows([row(1, Outcome.STORED)]))
    ledger.record(ledger_rows([row(1, Outcome.FAILED)]))
    assert outcomes(ledger, 1) == {1: "stored"}


def test_only_the_photos_asked_for_are_returned_in_order(ledger):
    ledger.record(ledger_rows([row(photo_id) for photo_id in (9, 3, 5, 1, 7)]))
    assert list(outcomes(ledger, 9, 1, 5, 5, 4)) == [1, 5, 9]


def test_sources_and_renditions_are_apart(ledger):
    ledger.record(ledger_rows([row(1), row(2, source="other"), row(3, rendition="large")]))
    assert list(outcomes(ledger, 1, 2, 3)) == [1]
    assert list(outcomes(ledger, 1, 2, 3, source="other")) == [2]
    assert list(outcomes(ledger, 1, 2, 3, rendition="large")) == [3]


def test_a_frame_of_photos_will_do(ledger):
    ledger.record(ledger_rows([row(1)]))
    assert ledger.outcomes("inat", "medium", pl.DataFrame({"photo_id": [1, 2]})).height == 1


def test_history_is_kept(ledger, lake):
    ledger.record(ledger_rows([row(1)]))
    configuration = DeltaTable(lake.uri("ledger")).metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert configuration["delta.logRetentionDuration"] == "interval 36500 days"


def test_no_rows_make_no_commit(ledger, lake):
    ledger.record(ledger_rows([]))
    assert not DeltaTable.is_deltatable(lake.uri("ledger"))


def test_writers_at_the_same_time_lose_nothing(ledger, lake):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda photo_id: Ledger(lake).record(ledger_rows([row(photo_id)])), range(40)))
    assert len(outcomes(ledger, *range(40))) == 40


def test_what_another_process_wrote_is_seen(ledger, lake):
    ledger.record(ledger_rows([row(1)]))
    other = Ledger(Lake(lake.root, lake.settings))  # shares nothing with the first but the files
    other.record(ledger_rows([row(2)]))
    assert list(outcomes(ledger, 1, 2)) == [1, 2]
    ledger.record(ledger_rows([row(3)]))
    assert list(outcomes(other, 1, 2, 3)) == [1, 2, 3]


def test_a_ledger_that_another_process_purged_is_read_and_written_on(ledger, lake):
    ledger.record(ledger_rows([row(1)]))
    assert list(outcomes(ledger, 1)) == [1]
    other = Ledger(Lake(lake.root, lake.settings))
    for photo_id in range(2, 8):
        other.record(ledger_rows([row(photo_id)]))
    other.forget([1])
    other.purge()
    assert list(outcomes(ledger, *range(10))) == list(range(2, 8))
    ledger.record(ledger_rows([row(9)]))
    assert list(outcomes(other, *range(10))) == [*range(2, 8), 9]
