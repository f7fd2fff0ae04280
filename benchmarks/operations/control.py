"""A real Dagster (web server, daemon, code location) on loopback, and its GraphQL interface; the tests that
need a daemon use it too."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
LOCATION, REPOSITORY = "lakehouse", "__repository__"
DONE = {"SUCCESS", "FAILURE", "CANCELED"}


def free_port(first: int = 27_100) -> int:
    """A port of this machine below the kernel's own range."""
    for port in range(first, 28_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


@dataclass(frozen=True, slots=True)
class Control:
    """A running Dagster."""

    url: str
    log: Path
    pid: int

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer; raises RuntimeError where it is an error."""
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=120
        ).json()
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"])[:2000])
        for value in answer["data"].values():
            if (
                isinstance(value, dict)
                and value.get("message")
                and value.get("__typename", "").endswith(("Error", "Subset"))
            ):
                raise RuntimeError(f"{value['__typename']}: {value['message'][:2000]}")
        return answer["data"]

    def launch(self, job: str, config: Mapping[str, Any] | None = None) -> str:
        """Start a job as the UI's launchpad does; the run's id."""
        data = self.ask(
            """mutation ($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
               ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
               ... on RunConfigValidationInvalid { errors { message } } } }""",
            p={
                "selector": {
                    "repositoryLocationName": LOCATION,
                    "repositoryName": REPOSITORY,
                    "jobName": job,
                },
                "runConfigData": dict(config or {}),
            },
        )
        return str(data["launchRun"]["run"]["runId"])

    def backfill(self, assets: Sequence[str], partitions: Sequence[str]) -> str:
        """Start a backfill as the UI's dialog does; its id."""
        data = self.ask(
            """mutation ($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename
               ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            p={
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
                "partitionNames": list(partitions),
            },
        )
        return str(data["launchPartitionBackfill"]["backfillId"])

    def backfill_state(self, backfill: str) -> dict[str, Any]:
        """`status` and number of `runs` of a backfill."""
        data = self.ask(
            """query ($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename
               ... on PartitionBackfill { status runs { runId status } } } }""",
            id=backfill,
        )["partitionBackfillOrError"]
        return {"status": data["status"], "runs": data["runs"]}

    def runs(self, **where: Any) -> list[dict[str, Any]]:
        """Runs, newest first: runId, status, jobName, tags, startTime, endTime."""
        data = self.ask(
            """query ($f: RunsFilter) { runsOrError(filter: $f, limit: 500) { ... on Runs { results {
               runId status jobName startTime endTime tags { key value } } } } }""",
            f=where or None,
        )
        return [
            {**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in data["runsOrError"]["results"]
        ]

    def runs_after(self, known: int) -> list[dict[str, Any]]:
        """Those that came after the first `known`, newest first."""
        found = self.runs()
        return found[: len(found) - known]

    def wait_run(self, run: str, seconds: float = 180) -> str:
        """The status that a run ends with."""

        def ended() -> str | None:
            [found] = self.runs(runIds=[run])
            return str(found["status"]) if found["status"] in DONE else None

        return self.wait(ended, f"the end of run {run}", seconds)

    def start_sensor(self, name: str) -> None:
        """Turn a sensor on."""
        self.ask(
            """mutation ($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename
               ... on PythonError { message } } }""",
            s={"sensorName": name, "repositoryLocationName": LOCATION, "repositoryName": REPOSITORY},
        )

    def try_sensor(self, name: str, cursor: str = "") -> dict[str, Any]:
        """What a sensor decides now, without consequences, as the UI's test button shows."""
        data = self.ask(
            """mutation ($s: SensorSelector!, $c: String) { sensorDryRun(selectorData: $s, cursor: $c) {
               __typename ... on PythonError { message }
               ... on DryRunInstigationTick { evaluationResult { skipReason error { message }
               runRequests { runKey } dynamicPartitionsRequests { type partitionKeys } } } } }""",
            s={"sensorName": name, "repositoryLocationName": LOCATION, "repositoryName": REPOSITORY},
            c=cursor,
        )
        return dict(data["sensorDryRun"]["evaluationResult"])

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """The ticks of a sensor, newest first: status, timestamp, endTimestamp, skipReason, runIds."""
        data = self.ask(
            """query ($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor {
               sensorState { ticks(limit: 50) { status timestamp endTimestamp skipReason runIds
               error { message } } } } } }""",
            s={"sensorName": name, "repositoryLocationName": LOCATION, "repositoryName": REPOSITORY},
        )
        return list(data["sensorOrError"]["sensorState"]["ticks"])

    def partition_states(self, asset: str) -> dict[str, list[str]]:
        """The partition keys of an asset by state: materialized, failed, unmaterialized."""
        data = self.ask(
            """query ($k: AssetKeyInput!) { assetNodeOrError(assetKey: $k) { ... on AssetNode {
               assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions
               failedPartitions unmaterializedPartitions } } } } }""",
            k={"path": asset.split("/")},
        )["assetNodeOrError"]["assetPartitionStatuses"]
        return {name.removesuffix("Partitions"): sorted(keys) for name, keys in data.items()}

    def assets(self) -> set[str]:
        """The keys of all assets that are loaded."""
        data = self.ask("{ assetNodes { assetKey { path } } }")
        return {"/".join(node["assetKey"]["path"]) for node in data["assetNodes"]}

    def reload(self) -> None:
        """Load the code location anew, as the UI's button does."""
        self.ask(
            """mutation ($n: String!) { reloadRepositoryLocation(repositoryLocationName: $n) { __typename
               ... on WorkspaceLocationEntry { locationOrLoadError { __typename
               ... on PythonError { message } } } } }""",
            n=LOCATION,
        )

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
        """What `condition` gives as soon as that is something; raises TimeoutError with the log's end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.5)
        raise TimeoutError(
            f"{what} did not come in {seconds:g} s; {self.log}: {self.log.read_text()[-3000:]}"
        )


@contextmanager
def dagster(
    home: Path, environment: Mapping[str, str], workspace: Path = ROOT / "workspace.yaml"
) -> Iterator[Control]:
    """Run `dagster dev` on loopback while the block runs.

    Parameters
    ----------
    home
        DAGSTER_HOME, with its `dagster.yaml`.
    environment
        Settings for it, `LAKEHOUSE_*`.
    """
    port = free_port()
    log = home / "dagster-dev.log"
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", str(workspace)]
    with (
        log.open("wb") as stream,
        serving(
            [*command, "-h", "127.0.0.1", "-p", str(port)], stream, {"DAGSTER_HOME": str(home), **environment}
        ) as process,
    ):
        control = Control(f"http://127.0.0.1:{port}", log, process.pid)

        def up() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"dagster dev ended with {process.returncode}: {log.read_text()[-3000:]}")
            try:
                return httpx.get(f"{control.url}/server_info", timeout=5).is_success
            except httpx.TransportError:
                return False

        control.wait(up, "the web server", 120)
        yield control


@contextmanager
def serving(
    command: Sequence[str], stream: Any, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program and its children, in a session of their own, ended with the block."""
    keep = {
        name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))
    }
    process = subprocess.Popen(
        command,
        stdout=stream,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=ROOT,
        env={**keep, **environment},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        # Whatever did not end by itself; the group is this program's own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
