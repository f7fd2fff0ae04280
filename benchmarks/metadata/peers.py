"""The databases that people load the dump into; each is skipped, and says so, where it is absent."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

_DDL = (
    "CREATE TABLE photos (photo_uuid uuid, photo_id bigint, observation_uuid uuid, observer_id integer, "
    "extension text, license text, width integer, height integer, position integer)"
)


def sqlite_import(file: Path, work: Path) -> dict[str, float] | str:
    """`sqlite3 .import` of the photos, or why not."""
    program = shutil.which("sqlite3")
    if program is None:
        return "skipped: no sqlite3 on the PATH (Debian: sqlite3)"
    target = work / "photos.sqlite"
    target.unlink(missing_ok=True)
    commands = f"{_DDL};\nPRAGMA journal_mode=OFF;\nPRAGMA synchronous=OFF;\n.mode ascii\n"
    commands += f'.separator "\\t" "\\n"\n.import --skip 1 "|gzip -dc {file}" photos\n'
    wall, cpu = time.perf_counter(), _children()
    subprocess.run([program, target], input=commands.encode(), check=True, stdout=subprocess.DEVNULL)
    return {"wall": time.perf_counter() - wall, "cpu": _children() - cpu}


def postgres_copy(file: Path, work: Path) -> dict[str, float] | str:
    """PostgreSQL `COPY … FROM PROGRAM` of the photos into a database of its own, or why not."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not homes:
        return "skipped: no PostgreSQL under /usr/lib/postgresql (Debian: postgresql)"
    bin_dir, data = homes[-1].parent, work / "postgres"
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    if as_user:
        shutil.chown(data, "postgres")

    def run(*command: object) -> None:
        line = [*as_user, *map(str, command)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    control = [bin_dir / "pg_ctl", "-D", data / "db", "-w"]
    options = f"-k {data} -c listen_addresses= -c fsync=off -c wal_level=minimal -c max_wal_senders=0"
    psql = [bin_dir / "psql", "-h", data, "-d", "postgres", "-q", "-v", "ON_ERROR_STOP=1"]
    try:
        run(bin_dir / "initdb", "-D", data / "db")
        run(*control, "-o", options, "-l", data / "log", "start")
        wall = time.perf_counter()
        form = "FORMAT csv, DELIMITER E'\\t', QUOTE E'\\b', HEADER"
        copy = f"COPY photos FROM PROGRAM 'gzip -dc {file}' WITH ({form})"
        run(*psql, "-c", _DDL, "-c", copy)
        return {"wall": time.perf_counter() - wall}
    except (subprocess.CalledProcessError, OSError) as error:
        return f"skipped: {error}"
    finally:
        with suppress(subprocess.CalledProcessError, OSError):
            run(*control, "-m", "immediate", "stop")
        shutil.rmtree(data, ignore_errors=True)


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system
