"""How fast photographs come, against wrk, a bare C loop and img2dataset on one origin: `make bench-images`.

Every comparison is A/B interleaved: the contestants take turns, `--rounds` times, and the medians are
compared. The origin has a core of its own; every contestant is pinned to one other core, so that images/s are
those of one core. A processor without SHA extensions spends most of its time on digests, which wrk does not
take: the C loop, which takes the same ones, shows what is possible there, and both are also run without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corpus import write_corpus
from origin import Origin, running

HERE = Path(__file__).parent
SECTIONS = ("wrk", "floor", "http", "decode", "https", "stragglers", "memory", "resize", "faults")
PEERS = {"http", "decode", "https", "resize"}


@dataclass(frozen=True, slots=True)
class Run:
    """One run: images per second, and per CPU second; peaks of resident memory in bytes, of the process and
    of its largest worker."""

    images: int
    rate: float
    per_cpu: float
    rss: int = 0
    worker_rss: int = 0


class Bench:
    """The contestants on one origin."""

    def __init__(self, arguments: argparse.Namespace, origin: Origin) -> None:
        self.images, self.rounds, self.origin = arguments.images, arguments.rounds, origin
        self.large = arguments.large
        self.work = origin.folder / "work"
        self.pin = ["taskset", "-c", str(arguments.client_core)] if shutil.which("taskset") else []
        self.peer_python = arguments.img2dataset
        self.verdicts: list[tuple[str, float, float]] = []

    def ours(
        self,
        server: str,
        connections: int,
        check: str = "decode",
        side: int = 0,
        images: int = 0,
        digests: bool = True,
        engine: str = "inline",
    ) -> Run:
        """This project, from the photo table to shards and ledger."""
        images = images or self.images
        command = [
            sys.executable,
            HERE / "ours.py",
            self.origin.url(server),
            images,
            connections,
            check,
            side,
            int(digests),
            engine,
        ]
        return self._json([*command, self.work / "lake"], images)

    def peer(self, server: str, connections: int, mode: str, digests: bool = True) -> Run:
        """img2dataset, from the list of URLs to shards."""
        command = [
            self.peer_python,
            HERE / "peer.py",
            self.origin.url(server),
            self.images,
            connections,
            mode,
            int(digests),
        ]
        return self._json([*command, self.work / "peer"], self.images)

    def floor(self, server: str, connections: int, digests: bool = True) -> Run:
        """The C loop."""
        program = self.work / "floor"
        if not program.exists() or program.stat().st_mtime < (HERE / "floor.c").stat().st_mtime:
            subprocess.run(["gcc", "-O2", "-o", program, HERE / "floor.c", "-lcrypto"], check=True)
        archive = self.work / "floor.tar"
        output = self._run(
            [program, "127.0.0.1", self.origin.port(server), self.images, connections, archive, int(digests)]
        ).split()
        archive.unlink()
        return Run(int(output[0]), int(output[0]) / float(output[1]), int(output[0]) / float(output[2]))

    def wrk(self, server: str, connections: int) -> Run:
        """wrk: the bodies are thrown away."""
        script = self.work / "paths.lua"
        script.write_text(
            f"local n = 0 request = function() n = n % {self.images} + 1 "
            'return wrk.format("GET", "/photos/" .. n .. "/medium.jpg") end'
        )
        output = self._run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                "-d5s",
                "--timeout",
                "10s",
                "-s",
                script,
                self.origin.url(server),
            ]
        )
        rate = next(float(line.split()[1]) for line in output.splitlines() if "Requests/sec" in line)
        return Run(int(rate * 5), rate, 0.0)

    def compare(self, title: str, **contestants: Callable[[], Run]) -> dict[str, Run]:
        """Let the contestants take turns; print and return the medians."""
        results: dict[str, list[Run]] = {name: [] for name in contestants}
        for turn in range(self.rounds):
            # Every second round runs backwards, so that a drift of the machine favours nobody.
            for name in [*contestants][:: -1 if turn % 2 else 1]:
                results[name].append(contestants[name]())
        print(f"\n{title}")
        medians = {}
        for name, runs in results.items():
            rates, cpus = [run.rate for run in runs], [run.per_cpu for run in runs]
            medians[name] = Run(
                runs[0].images,
                statistics.median(rates),
                statistics.median(cpus),
                max(run.rss for run in runs),
            )
            spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
            per_cpu = f"{medians[name].per_cpu:9,.0f} images/CPU-s" if medians[name].per_cpu else ""
            print(f"  {name:34} {medians[name].rate:9,.0f} images/s ({spread}) {per_cpu}", flush=True)
        return medians

    def verdict(self, claim: str, ratio: float, threshold: float) -> None:
        """Print a ratio beside what it should be."""
        self.verdicts.append((claim, ratio, threshold))
        word = "met" if ratio >= threshold else "MISSED"
        print(f"  => {claim}: {ratio:.2f} (threshold {threshold:g}: {word})", flush=True)

    def _json(self, command: list[object], images: int) -> Run:
        result = json.loads(self._run(command).splitlines()[-1])
        if result["failed"]:
            print(f"  ({result['failed']} of {images} images lost: {result.get('reasons', '')})")
        return Run(
            result["images"],
            result["images"] / result["seconds"],
            result["images"] / max(result["cpu"], 1e-9),
            result.get("rss", 0),
            result.get("worker_rss", 0),
        )

    def _run(self, command: list[object]) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parents[1]),
            "SSL_CERT_FILE": str(self.origin.authorities),
            "NO_ALBUMENTATIONS_UPDATE": "1",
            "WANDB_MODE": "disabled",
        }
        arguments = [*self.pin, *(str(one) for one in command)]
        done = subprocess.run(
            arguments, env=environment, cwd=self.origin.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
        return done.stdout


def wrk(bench: Bench) -> None:
    """Share of what a client that throws everything away reaches."""
    medians = bench.compare(
        "50 ms latency, 256 connections, http; sha256 and header check",
        **{
            "wrk": lambda: bench.wrk("http-50ms", 256),
            "floor": lambda: bench.floor("http-50ms", 256),
            "lakehouse": lambda: bench.ours("http-50ms", 256, "header"),
            "floor without digests": lambda: bench.floor("http-50ms", 256, digests=False),
            "lakehouse without digests": lambda: bench.ours("http-50ms", 256, "header", digests=False),
        },
    )
    best = medians["wrk"].rate
    bench.verdict("share of wrk's images/s", medians["lakehouse"].rate / best, 0.85)
    for name in ("floor", "floor without digests", "lakehouse without digests"):
        print(f"     ({name}: {medians[name].rate / best:.2f})")


def floor(bench: Bench) -> None:
    """Share of what a C program reaches."""
    medians = bench.compare(
        "no latency, 64 connections, http; sha256, header check, archive, manifest",
        **{
            "floor": lambda: bench.floor("http", 64),
            "lakehouse": lambda: bench.ours("http", 64, "header"),
            "floor without digests": lambda: bench.floor("http", 64, digests=False),
            "lakehouse without digests": lambda: bench.ours("http", 64, "header", digests=False),
        },
    )

    def share(suffix: str) -> float:
        return medians[f"lakehouse{suffix}"].per_cpu / medians[f"floor{suffix}"].per_cpu

    bench.verdict("share of the C loop's images/CPU-s", share(""), 0.65)
    print(f"     (without digests on either side: {share(' without digests'):.2f})")


def http(bench: Bench) -> None:
    """Against img2dataset, which looks at nothing here."""
    title = "http, bytes kept unread by img2dataset, header check here"
    _against_peer(bench, title, "http", "header", "keep", 2.0)


def decode(bench: Bench) -> None:
    """Against img2dataset, every image decoded on both sides."""
    _against_peer(bench, "http, every image decoded", "http", "decode", "decode", 1.8)


def https(bench: Bench) -> None:
    """Against img2dataset, encrypted."""
    title = "https, bytes kept unread by img2dataset, header check here"
    _against_peer(bench, title, "https", "header", "keep", 8.0)


def _against_peer(bench: Bench, title: str, server: str, check: str, mode: str, threshold: float) -> None:
    medians = bench.compare(
        f"{title}, 64 connections",
        **{
            "img2dataset": lambda: bench.peer(server, 64, mode),
            "lakehouse": lambda: bench.ours(server, 64, check),
            "img2dataset without digests": lambda: bench.peer(server, 64, mode, digests=False),
            "lakehouse without digests": lambda: bench.ours(server, 64, check, digests=False),
        },
    )

    def times(suffix: str) -> tuple[float, float]:
        ours, theirs = medians[f"lakehouse{suffix}"], medians[f"img2dataset{suffix}"]
        return ours.rate / theirs.rate, ours.per_cpu / theirs.per_cpu

    rate, per_cpu = times("")
    bench.verdict(f"times img2dataset ({title})", rate, threshold)
    print(f"     (in images/CPU-s: {per_cpu:.2f})")
    rate, per_cpu = times(" without digests")
    print(f"     (without digests on either side: {rate:.2f}, in images/CPU-s: {per_cpu:.2f})")


def stragglers(bench: Bench) -> None:
    """What slow answers cost."""
    medians = bench.compare(
        "50 ms latency, 256 connections: 0.3 % of the answers take 4 s",
        without=lambda: bench.ours("http-50ms", 256, "header"),
        stragglers=lambda: bench.ours("stragglers", 256, "header"),
    )
    bench.verdict(
        "share of the straggler-free images/s", medians["stragglers"].rate / medians["without"].rate, 0.6
    )


def memory(bench: Bench) -> None:
    """Peaks of resident memory, each run made once: in one process, and with two workers."""
    print("\nmemory")
    inline = [bench.ours("http", 64, "header", images=images) for images in (bench.images, bench.large)]
    # Two shards at least, so that both workers have one.
    pooled = [
        bench.ours("http", 64, "header", images=images, engine="processes:2")
        for images in (max(20_000, bench.images), bench.large)
    ]
    for run in inline:
        print(f"  {run.images:9,} images, one process: {run.rss / 1e6:.0f} MB")
    for run in pooled:
        print(
            f"  {run.images:9,} images, two workers: {run.rss / 1e6:.0f} MB, the larger worker "
            f"{run.worker_rss / 1e6:.0f} MB"
        )
    most = max(max(run.rss, run.worker_rss) for run in [*inline, *pooled])
    bench.verdict("300 MB over the largest peak", 300e6 / most, 1.0)
    bench.verdict("peak of the smaller over that of the larger run", inline[0].rss / inline[1].rss, 0.9)
    bench.verdict("the same of the workers", pooled[0].worker_rss / pooled[1].worker_rss, 0.9)


def resize(bench: Bench) -> None:
    """A smaller rendition, JPEG of quality 90 on both sides."""
    medians = bench.compare(
        "http, longer side to 384 pixels, JPEG quality 90",
        img2dataset=lambda: bench.peer("http", 64, "resize"),
        lakehouse=lambda: bench.ours("http", 64, side=384),
    )
    bench.verdict(
        "times img2dataset's images/CPU-s", medians["lakehouse"].per_cpu / medians["img2dataset"].per_cpu, 1.5
    )


def faults(bench: Bench) -> None:
    """1 % of the answers are 503, 1 % are cut: nothing may be lost."""
    print("\n1 % 503 and 1 % truncated bodies")
    run = bench.ours("faults", 64, "header")
    print(f"  {run.images:,} of {bench.images:,} images stored, {run.rate:,.0f} images/s")
    bench.verdict("share of the images stored", run.images / bench.images, 1.0)


def main() -> None:
    """Run the sections asked for; exit code 1 if a threshold is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="benchmarks/images")
    parser.add_argument("--images", type=int, default=10_000, help="how many photographs (default 10,000)")
    parser.add_argument("--large", type=int, default=100_000, help="images of the larger memory run")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run")
    shm = Path("/dev/shm")
    parser.add_argument("--folder", type=Path, default=shm if shm.is_dir() else Path(tempfile.gettempdir()))
    parser.add_argument("--img2dataset", help="a Python that has img2dataset; else an environment is made")
    parser.add_argument("--client-core", type=int, default=0)
    parser.add_argument("--origin-core", type=int, default=1)
    arguments = parser.parse_args()
    folder = arguments.folder / "lakehouse-bench"
    (folder / "work").mkdir(parents=True, exist_ok=True)
    print(f"$ {' '.join([Path(sys.executable).name, *sys.argv])}", flush=True)
    write_corpus(folder, arguments.images)
    (folder / "corpus-size").write_text(str(arguments.images))
    if PEERS & set(arguments.only):
        arguments.img2dataset = arguments.img2dataset or _environment(folder)
    print_versions(arguments)
    with running(folder, arguments.origin_core if shutil.which("taskset") else None) as origin:
        bench = Bench(arguments, origin)
        for section in arguments.only:
            globals()[section](bench)
    missed = [claim for claim, ratio, threshold in bench.verdicts if ratio < threshold]
    print(f"\n{len(bench.verdicts) - len(missed)} of {len(bench.verdicts)} thresholds met")
    raise SystemExit(1 if missed else 0)


def _environment(folder: Path) -> str:
    """A virtual environment with the newest img2dataset; it needs a Python below 3.13."""
    python = folder / "img2dataset" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "img2dataset"], check=True)
    return str(python)


def print_versions(arguments: argparse.Namespace) -> None:
    """The machine and everything that takes part."""
    import pycurl
    import simplejpeg
    from PIL import __version__ as pillow

    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    print(f"{_first(flags, 'model name')}; SHA extensions: {'yes' if 'sha_ni' in flags else 'no'}")
    print(f"sha256 of 75,000 bytes: {_digest_cost():.0f} µs, of every photo and of the archive with it")
    print(f"{pycurl.version}; simplejpeg {simplejpeg.__version__}; Pillow {pillow}")
    for command in (["/usr/sbin/nginx", "-v"], ["wrk", "-v"], ["gcc", "--version"]):
        if shutil.which(command[0]):
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            print((told.stdout + told.stderr).splitlines()[0])
    if arguments.img2dataset:
        code = (
            "import importlib.metadata as m, sys; "
            "print('img2dataset', m.version('img2dataset'), '/ Python', sys.version.split()[0])"
        )
        told = subprocess.run([arguments.img2dataset, "-c", code], capture_output=True, text=True, check=True)
        print(told.stdout.strip())


def _digest_cost() -> float:
    """CPU microseconds."""
    data, times = bytes(75_000), []
    for _ in range(200):
        began = time.thread_time()
        hashlib.sha256(data).digest()
        times.append(time.thread_time() - began)
    return statistics.median(times) * 1e6


def _first(text: str, key: str) -> str:
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)), "")


if __name__ == "__main__":
    main()
