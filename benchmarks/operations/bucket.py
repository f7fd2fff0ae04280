"""A source of many small taxa: as many genera of one species as are asked for, of each a few tiny photos."""

from __future__ import annotations

import gzip
import io
import threading
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

ROOT_TAXON = 1
_MOST = 50  # photo ids that each taxon has to itself


def write(directory: Path, taxa: int, photos: int, changed: Collection[int] = ()) -> None:
    """Write the bucket with so many photos of each taxon; each taxon number in `changed` has one more."""
    assert photos < _MOST
    directory.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {
        "taxa": ["taxon_id\tancestry\trank_level\trank\tname\tactive", "1\t\t70\tkingdom\tAnimalia\ttrue"],
        "observers": ["observer_id\tlogin\tname", "1\tsomebody\tSome Body"],
        "observations": [
            "observation_uuid\tobserver_id\tlatitude\tlongitude\tpositional_accuracy\ttaxon_id\tquality_grade\t"
            "observed_on"
        ],
        "photos": [
            "photo_uuid\tphoto_id\tobservation_uuid\tobserver_id\textension\tlicense\twidth\theight\tposition"
        ],
    }
    for number in range(taxa):
        genus, species = 10 + 2 * number, 11 + 2 * number
        name = f"Genus{_letters(number)}"
        lines["taxa"] += [
            f"{genus}\t1\t20\tgenus\t{name}\ttrue",
            f"{species}\t1/{genus}\t10\tspecies\t{name} testis\ttrue",
        ]
        for nth in range(photos + (number in changed)):
            photo = 1000 + _MOST * number + nth
            observation = uuid.uuid5(uuid.NAMESPACE_URL, str(photo))
            lines["observations"].append(f"{observation}\t1\t52.0\t10.0\t10\t{species}\tresearch\t2026-01-01")
            lines["photos"].append(
                f"{uuid.uuid5(uuid.NAMESPACE_DNS, str(photo))}\t{photo}\t{observation}\t1\tjpg\tCC-BY\t"
                "64\t64\t0"
            )
            path = directory / "photos" / str(photo) / "medium.jpg"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_picture(photo))
    for table, rows in lines.items():
        (directory / f"{table}.csv.gz").write_bytes(gzip.compress("\n".join([*rows, ""]).encode(), mtime=0))


def _letters(number: int) -> str:
    return "".join(chr(97 + number // 26**place % 26) for place in range(4))


def _picture(photo: int) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 40 + photo % 50).convert("RGB").save(
        stream, "JPEG", comment=str(photo).encode()
    )
    return stream.getvalue()


@contextmanager
def serve(directory: Path, port: int) -> Iterator[str]:
    """Serve the bucket on loopback while the block runs; its address."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(directory))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            """A line for each photograph would be most of the output."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def campaign(name: str, address: str, photos: int, organization: str = "") -> str:
    """A campaign file over the whole bucket that makes a partition of each genus, with an entry in CKAN if an
    organization there is named."""
    publish = f"publish: {{ckan: {{organization: {organization}}}}}\n" if organization else ""
    return f"""name: {name}
title: Many small taxa
description: As many partitions as there are genera.
creators: [{{name: A benchmark}}]
source: {address}
taxa: [{ROOT_TAXON}]
image: {{size: medium}}
partition: {{max_photos: {photos}}}
gate: {{max_failed: 0}}
{publish}"""
