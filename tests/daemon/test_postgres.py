"""Dagster's instance in Debian's PostgreSQL instead of SQLite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from benchmarks.operations.control import free_port
from lakehouse.campaign import Campaign
from lakehouse.cli import runs
from lakehouse.demo.bucket import write_bucket
from lakehouse.lake import open_lake
from lakehouse.settings import Settings
from resources.events import purge_events
from tests.conftest import PHOTOS, ROOT

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]
psycopg2 = pytest.importorskip("psycopg2", reason="needs the extra 'postgres'")
USER = "nobody"  # PostgreSQL refuses to run as root


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An empty PostgreSQL on loopback; the address of its database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("needs postgresql; apt-get install postgresql")
    data, port = Path("/tmp") / f"lakehouse-postgres-{os.getpid()}", free_port(27_700)
    data.mkdir(mode=0o700)
    as_user = []
    if os.geteuid() == 0:
        shutil.chown(data, USER)
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={data.stat().st_gid}", "--clear-groups"]

    def control(program: str, *arguments: str) -> None:
        command = [*as_user, str(found[-1] / program), "-D", str(data / "data"), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    try:
        control("initdb", "-U", "dagster", "-A", "trust", "-E", "UTF8")
        options = f"-h 127.0.0.1 -p {port} -k {data} -c fsync=off"
        control("pg_ctl", "-w", "-l", str(data / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://dagster@127.0.0.1:{port}/postgres"
        finally:
            control("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data)


def assert_purged(server: str, home: Path) -> None:
    """Take the photos that the log names out of it, and read it again."""
    columns = {
        "event_logs": "event",
        "asset_keys": "last_materialization",
        "asset_check_executions": "evaluation_event",
    }
    with closing(psycopg2.connect(server.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def shown() -> str:
            texts = []
            for table, column in columns.items():
                cursor.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
                texts += [text for (text,) in cursor.fetchall()]
            return "\n".join(texts)

        cursor.execute("SELECT pg_total_relation_size('event_logs')")
        (size,) = cursor.fetchone()
        named = set(re.findall(r"/photos/(\d+)/", shown()))
        assert named and "data:image/png" in shown() and "data:image/jpeg" in shown()
        gone = {int(photo_id) for photo_id in sorted(named)[:-1]}
        assert purge_events(home, gone) > 0
        assert not re.search(r"data:image/(png|jpeg)", shown())
        assert set(re.findall(r"/photos/(\d+)/", shown())) == {"0", max(named)}
        cursor.execute("SELECT pg_total_relation_size('event_logs')")
        assert cursor.fetchone()[0] < size  # old rows are in no file any more
    with dg.DagsterInstance.get() as instance:
        shards = dg.AssetKey(["demo", "shards"])
        records = instance.fetch_materializations(shards, limit=1000).records
        assert {record.partition_key for record in records} == instance.get_materialized_partitions(shards)
        assert all(record.asset_materialization for record in records)


def test_a_campaign_is_built_refreshed_and_pruned_with_its_runs_in_postgresql(
    server: str, tmp_path: Path, demo_campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(str(tmp_path / "lake"), Settings(_env_file=None))
    home = tmp_path / "home"
    home.mkdir()
    documented = (ROOT / "docs" / "operations.md").read_text()
    block = documented.split("<!-- dagster.yaml for PostgreSQL -->\n```yaml\n")[1].split("```")[0]
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + block)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("LAKEHOUSE_ROOT", lake.root)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", server)
    write_bucket(lake.path / "embedded-source", 1, photos=PHOTOS)
    built = runs.build(lake, demo_campaign)
    assert isinstance(built, runs.Built) and built.created
    again = runs.build(lake, demo_campaign)
    assert isinstance(again, runs.Built) and not again.partitions
    with psycopg2.connect(server.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE status = 'SUCCESS') FROM runs")
        assert cursor.fetchone() == (3, 3)
    assert not list(home.rglob("*.db"))
    assert_purged(server, home)
    assert runs.prune(lake, keep_days=0).kept == 3  # all that is there comes from these runs
