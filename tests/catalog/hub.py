"""A stand-in for the Hugging Face Hub on loopback: the HTTP API that its client uses, kept in memory.

It knows what matters here: commits that name their parent, small files in the commit and large ones by
digest through the LFS protocol (in parts if they are larger than `part`), tags, visibility, deletion of large
files, squashed histories. It is stricter than kind: a wrong digest, an unknown large file, a wrong token or a
stale parent are refused. It does not speak Xet, the Hub's other way to take large files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_secretsecretsecretsecretsecret"
LARGE = (".tar", ".parquet", ".png", ".jpg")


@dataclass
class Entry:
    """A file of a commit: its bytes are in `small`, or in the repository's large files under `oid`."""

    oid: str
    size: int
    small: bytes | None


@dataclass
class Repo:
    """One repository."""

    private: bool
    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    head: str = ""
    large: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, Entry]) -> str:
        """A new head."""
        sha = hashlib.sha1(f"{len(self.commits)} {random.random()}".encode()).hexdigest()
        self.commits[sha], self.parents[sha], self.head = files, self.head or None, sha
        return sha

    @property
    def files(self) -> dict[str, Entry]:
        """What the main branch shows."""
        return self.commits[self.head]

    def read(self, path: str) -> bytes:
        """The bytes of a file on the main branch."""
        entry = self.files[path]
        return self.large[entry.oid] if entry.small is None else entry.small


class FakeHub:
    """The stand-in's state; `fail` may answer any request first with (status, message)."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.part = 1 << 40
        self.requests: Counter[str] = Counter()
        self.received = 0
        self.fail: Callable[[str, str], tuple[int, str] | None] = lambda method, path: None
        self.url = ""
        self.lock = threading.RLock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def _serve(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        with self.hub.lock:
            try:
                self._route(self.command, unquote(split.path), parse_qs(split.query), body)
            except KeyError as error:
                self._error(404, f"not found: {error}", "EntryNotFound")

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if failed := self.hub.fail(method, path):
            self._error(*failed)
            return
        if path.startswith("/storage/"):
            self._storage(method, path, body)
            return
        # Addresses of the storage are signed, and so is that which completes an upload in parts.
        signed = path.startswith("/complete/")
        if not signed and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "Invalid username or password.")
            return
        routes: list[tuple[str, str, Callable[..., None]]] = [
            ("POST", r"/api/repos/create", self._create),
            ("POST", r"/api/validate-yaml", lambda body: self._answer({"errors": [], "warnings": []})),
            ("GET", r"/api/datasets/([^/]+/[^/]+)", self._info),
            ("GET", r"/api/datasets/([^/]+/[^/]+)/revision/(.+)", self._info),
            ("PUT", r"/api/datasets/([^/]+/[^/]+)/settings", self._settings),
            ("GET", r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            ("GET", r"/api/datasets/([^/]+/[^/]+)/refs", self._refs),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/paths-info/([^/]+)", self._paths),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/preupload/([^/]+)", self._preupload),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/commit/([^/]+)", self._commit),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/tag/([^/]+)", self._tag),
            ("DELETE", r"/api/datasets/([^/]+/[^/]+)/tag/([^/]+)", self._untag),
            ("GET", r"/api/datasets/([^/]+/[^/]+)/lfs-files", self._large),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/lfs-files/batch", self._purge),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/super-squash/([^/]+)", self._squash),
            ("POST", r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            ("POST", r"/complete/([^/]+/[^/]+)/([0-9a-f]{64})", self._complete),
            ("POST", r"/verify/([^/]+/[^/]+)/([0-9a-f]{64})", self._verify),
            ("GET", r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            ("HEAD", r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        ]
        for verb, pattern, act in routes:
            if verb == method and (found := re.fullmatch(pattern, path)):
                self.hub.requests[act.__name__.strip("_")] += 1
                names = found.groups()
                if names and names[0] not in self.hub.repos:
                    self._error(404, "Repository not found", "RepoNotFound")
                else:
                    act(*names, **({"body": body} if method in ("POST", "PUT") else {}))
                return
        self._error(404, f"the stand-in has no {method} {path}")

    def _answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: int, message: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._answer({"error": message}, status, headers)

    def _revision(self, repo: Repo, name: str) -> str:
        return repo.head if name == "main" else repo.tags.get(name, name)

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            self._error(409, "You already created this dataset repo")
            return
        repo = self.hub.repos[name] = Repo(asked.get("visibility") == "private")
        data = b"*.tar filter=lfs diff=lfs merge=lfs -text\n"
        repo.commit({".gitattributes": Entry(_git(data), len(data), data)})
        self._answer({"url": f"{self.hub.url}/datasets/{name}", "name": name})

    def _info(self, name: str, revision: str = "main") -> None:
        repo = self.hub.repos[name]
        sha = self._revision(repo, revision)
        files = [{"rfilename": path} for path in repo.commits[sha]]
        self._answer({"id": name, "sha": sha, "private": repo.private, "siblings": files, "tags": []})

    def _settings(self, name: str, body: bytes) -> None:
        self.hub.repos[name].private = json.loads(body)["visibility"] == "private"
        self._answer({})

    def _listing(self, files: dict[str, Entry]) -> list[dict[str, Any]]:
        listed = []
        for path, entry in sorted(files.items()):
            item: dict[str, Any] = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
            if entry.small is None:
                item["lfs"] = {"oid": entry.oid, "size": entry.size, "pointerSize": 134}
                item["oid"] = hashlib.sha1(entry.oid.encode()).hexdigest()
            listed.append(item)
        return listed

    def _tree(self, name: str, revision: str) -> None:
        repo = self.hub.repos[name]
        files = repo.commits[self._revision(repo, revision)]
        folders = {path.rsplit("/", 1)[0] for path in files if "/" in path}
        listed = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]
        self._answer([*listed, *self._listing(files)])

    def _paths(self, name: str, revision: str, body: bytes) -> None:
        repo, wanted = self.hub.repos[name], set(json.loads(body)["paths"])
        files = repo.commits[self._revision(repo, revision)]
        self._answer(self._listing({path: entry for path, entry in files.items() if path in wanted}))

    def _refs(self, name: str) -> None:
        repo = self.hub.repos[name]
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": sha} for t, sha in repo.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
        self._answer({"branches": [main], "converts": [], "tags": tags})

    def _preupload(self, name: str, revision: str, body: bytes) -> None:
        files = self.hub.repos[name].files
        self._answer(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                        "oid": files[file["path"]].oid if file["path"] in files else None,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def _batch(self, name: str, body: bytes) -> None:
        repo, objects = self.hub.repos[name], []
        for wanted in json.loads(body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            if oid in repo.large:
                objects.append({"oid": oid, "size": size})
                continue
            base, verify = f"{self.hub.url}/storage/{name}/{oid}", f"{self.hub.url}/verify/{name}/{oid}"
            upload: dict[str, Any] = {"href": base}
            if size > self.hub.part:
                count = -(-size // self.hub.part)
                urls = {str(number): f"{base}/{number}" for number in range(1, count + 1)}
                upload = {
                    "href": f"{self.hub.url}/complete/{name}/{oid}",
                    "header": {"chunk_size": str(self.hub.part), **urls},
                }
            objects.append(
                {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": verify}}}
            )
        self._answer({"transfer": "basic", "objects": objects})

    def _storage(self, method: str, path: str, body: bytes) -> None:
        found = re.fullmatch(r"/storage/([^/]+/[^/]+)/([0-9a-f]{64})(?:/(\d+))?", path)
        assert found and method == "PUT"
        repo, oid = self.hub.repos[found[1]], found[2]
        self.hub.requests["storage"] += 1
        self.hub.received += len(body)
        if found[3]:
            repo.parts.setdefault(oid, {})[int(found[3])] = body
            self._answer({}, headers={"ETag": hashlib.md5(body).hexdigest()})
        else:
            self._store(repo, oid, body)

    def _complete(self, name: str, oid: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        parts = repo.parts.pop(oid)
        etags = {part["partNumber"]: part["etag"] for part in json.loads(body)["parts"]}
        assert etags == {number: hashlib.md5(data).hexdigest() for number, data in parts.items()}
        self._store(repo, oid, b"".join(data for _, data in sorted(parts.items())))

    def _store(self, repo: Repo, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            self._error(400, "the digest is not that of the bytes")
            return
        repo.large[oid] = data
        self._answer({})

    def _verify(self, name: str, oid: str, body: bytes) -> None:
        assert len(self.hub.repos[name].large[oid]) == json.loads(body)["size"]
        self._answer({})

    def _commit(self, name: str, revision: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        files = dict(repo.files)
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                if value.get("parentCommit") not in (None, repo.head):
                    self._error(412, "A commit has happened since. Please refresh and try again.")
                    return
            elif item["key"] == "file":
                data = base64.b64decode(value["content"])
                files[value["path"]] = Entry(_git(data), len(data), data)
            elif item["key"] == "lfsFile":
                if value["oid"] not in repo.large:
                    self._error(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                    return
                files[value["path"]] = Entry(value["oid"], value["size"], None)
            else:
                del files[value["path"]]
        sha = repo.commit(files)
        self._answer({"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{sha}", "commitOid": sha})

    def _tag(self, name: str, revision: str, body: bytes) -> None:
        repo, tag = self.hub.repos[name], json.loads(body)["tag"]
        if tag in repo.tags:
            self._error(409, "Tag reference exists already")
            return
        repo.tags[tag] = self._revision(repo, revision)
        self._answer({})

    def _untag(self, name: str, tag: str) -> None:
        del self.hub.repos[name].tags[tag]
        self._answer({})

    def _large(self, name: str) -> None:
        repo = self.hub.repos[name]
        names = {
            entry.oid: path
            for files in repo.commits.values()
            for path, entry in files.items()
            if not entry.small
        }
        self._answer(
            [
                {
                    "fileOid": oid,
                    "oid": oid,
                    "filename": names.get(oid, oid),
                    "pushedAt": "2026-01-01T00:00:00.000Z",
                    "size": len(data),
                }
                for oid, data in repo.large.items()
            ]
        )

    def _purge(self, name: str, body: bytes) -> None:
        repo, asked = self.hub.repos[name], json.loads(body)["deletions"]
        for oid in asked["sha"]:
            del repo.large[oid]
            for files in repo.commits.values():
                for path in [path for path, entry in files.items() if entry.oid == oid]:
                    del files[path]
        self._answer({})

    def _squash(self, name: str, branch: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        kept = {*repo.tags.values()}
        files = repo.files
        repo.commits = {sha: tree for sha, tree in repo.commits.items() if sha in kept}
        repo.head = ""
        repo.commit(files)
        self._answer({})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.hub.repos[name]
        sha = self._revision(repo, revision)
        entry = repo.commits[sha][path]
        data = repo.large[entry.oid] if entry.small is None else entry.small
        self._answer(data, headers={"ETag": f'"{entry.oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "none"})


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve() -> Iterator[FakeHub]:
    """The stand-in, listening on loopback while the block runs."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    while True:
        try:
            server = ThreadingHTTPServer(("127.0.0.1", random.randrange(20_000, 32_000)), handler)
            break
        except OSError:
            continue
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
