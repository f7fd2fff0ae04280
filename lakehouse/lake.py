"""The lake: one storage root, local or S3, reached through obstore.

Everything written appears whole or not at all. On a local disk an object is a temporary file in the lake's
`.tmp/`, synced and renamed into place (or linked, where it must be new); on S3 it is one put or one multipart
upload, invisible until closed.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import obstore
import obstore.exceptions
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.fsspec import FsspecStore
from obstore.store import LocalStore, S3Store

from lakehouse.errors import AlreadyExistsError, LakeError, NotFoundError, UsageError
from lakehouse.settings import Settings, load_settings

if TYPE_CHECKING:
    import duckdb

ROW_GROUP = 65_536
# Extensions would be downloads; order is asked for where it matters.
DUCKDB_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "preserve_insertion_order": False,
}
_PART_SIZE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of the lake: `size` in bytes, `modified` when it was written last."""

    key: str
    size: int
    modified: datetime


class Lake:
    """A lake's storage, addressed by keys such as `raw/inaturalist/<release>/taxa.parquet`.

    Parameters
    ----------
    root
        A local path or `s3://bucket/prefix`.
    settings
        Where the S3 endpoint and credentials come from.
    """

    def __init__(self, root: str, settings: Settings) -> None:
        self.settings = settings
        self.is_local = "://" not in root
        self.store: LocalStore | S3Store
        if self.is_local:
            self.path = Path(root).expanduser().absolute()
            self.root = str(self.path)
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"LAKEHOUSE_ROOT is {root!r}: {error.strerror}; give a folder") from error
            self.store = LocalStore(self.path)
            self._sweep()
        elif root.startswith("s3://"):
            self.root = root.rstrip("/")
            bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
            self.store = S3Store(
                bucket, prefix=prefix or None, **self._s3_config(), client_options={"allow_http": True}
            )
        else:
            raise UsageError(f"LAKEHOUSE_ROOT is {root!r}: give a local path or s3://bucket/prefix")

    def __reduce__(self) -> tuple[type[Lake], tuple[str, Settings]]:
        """A worker in another process opens the lake anew."""
        return Lake, (self.root, self.settings)

    def _s3_config(self) -> dict[str, Any]:
        settings, config = self.settings, {"region": self.settings.aws_region}
        if settings.s3_endpoint:
            config["endpoint"] = settings.s3_endpoint
        if settings.aws_access_key_id and settings.aws_secret_access_key:
            config["access_key_id"] = settings.aws_access_key_id
            config["secret_access_key"] = settings.aws_secret_access_key.get_secret_value()
        if settings.aws_session_token:
            config["session_token"] = settings.aws_session_token.get_secret_value()
        return config

    @property
    def storage_options(self) -> dict[str, str] | None:
        """What Polars and Delta need beside `uri(key)`; None for a local lake."""
        if self.is_local:
            return None
        options = {f"aws_{name}": value for name, value in self._s3_config().items()}
        return {**options, "aws_allow_http": "true", "aws_conditional_put": "etag"}

    def uri(self, key: str = "") -> str:
        """The path or S3 URI of `key`, as Polars, Delta and people take it."""
        return f"{self.root}/{_checked(key)}" if key else self.root

    def public_uri(self, key: str) -> str:
        """Where others read `key`: below LAKEHOUSE_PUBLIC_URL if set, else `uri(key)` (`file://` when
        local)."""
        if self.settings.public_url:
            return f"{self.settings.public_url.rstrip('/')}/{_checked(key)}"
        return Path(self.uri(key)).as_uri() if self.is_local else self.uri(key)

    # --- reading

    def exists(self, key: str) -> bool:
        """Whether `key` is in the lake."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """Bytes of `key`, None if it is absent."""
        if self.is_local:
            # In a thirtieth of the time.
            try:
                told = (self.path / _checked(key)).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise self._failure("read", key, error) from error
            return told.st_size if S_ISREG(told.st_mode) else None
        try:
            return int(self.store.head(_checked(key))["size"])
        except FileNotFoundError:
            return None
        except obstore.exceptions.BaseError as error:
            raise self._failure("read", key, error) from error

    def get(self, key: str) -> bytes:
        """The bytes of a small object; raises NotFoundError."""
        try:
            return bytes(self.store.get(_checked(key)).bytes())
        except FileNotFoundError:
            raise NotFoundError(f"{self.uri(key)} is not in the lake") from None
        except obstore.exceptions.BaseError as error:
            raise self._failure("read", key, error) from error

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """`size` bytes of `key` from `offset`; raises NotFoundError."""
        try:
            return bytes(self.store.get_range(_checked(key), start=offset, length=size))
        except FileNotFoundError:
            raise NotFoundError(f"{self.uri(key)} is not in the lake") from None
        except obstore.exceptions.BaseError as error:
            raise self._failure("read", key, error) from error

    def read_table(
        self, key: str, columns: Sequence[str] | None = None, repeated: Sequence[str] = ()
    ) -> pa.Table:
        """A small Parquet file as an Arrow table, texts that are `repeated` as dictionaries; raises
        NotFoundError."""
        # Not `pq.read_table`, whose dataset takes longer than the reading of a small file.
        data = pa.BufferReader(self.get(key))
        footer = pq.read_metadata(data)
        words = [name for name in repeated if name in footer.schema.names]
        with pq.ParquetFile(data, metadata=footer, read_dictionary=words) as file:
            return file.read() if columns is None else file.read([*columns]).select([*columns])

    def reader(self, key: str) -> Any:
        """What Arrow reads `key` from, by ranges: a path, or a seekable file on S3; raises NotFoundError."""
        if self.is_local:
            return self.uri(key)
        try:
            opened = obstore.open_reader(self.store, _checked(key))
        except FileNotFoundError:
            raise NotFoundError(f"{self.uri(key)} is not in the lake") from None
        except obstore.exceptions.BaseError as error:
            raise self._failure("read", key, error) from error
        # One that reads to the end of what it is asked for, as Arrow takes a short read for a short file.
        return io.BufferedReader(_Ranges(opened))

    def chunks(self, key: str) -> Iterator[bytes]:
        """The bytes of `key` in pieces of bounded size; raises NotFoundError."""
        try:
            for chunk in self.store.get(_checked(key)).stream(min_chunk_size=1 << 20):
                yield bytes(chunk)
        except FileNotFoundError:
            raise NotFoundError(f"{self.uri(key)} is not in the lake") from None
        except obstore.exceptions.BaseError as error:
            raise self._failure("read", key, error) from error

    def list(self, prefix: str) -> Iterator[str]:
        """The keys below the folder `prefix`, in order."""
        keys: list[str] = []
        try:
            for batch in self.store.list(_checked(prefix) + "/"):
                keys += [str(entry["path"]) for entry in batch]
        except obstore.exceptions.BaseError as error:
            raise self._failure("list", prefix, error) from error
        return iter(sorted(keys))

    def entries(self, prefix: str) -> Sequence[Entry]:
        """The objects below the folder `prefix` with size and age, in order of their keys."""
        found = []
        try:
            for batch in self.store.list(_checked(prefix) + "/"):
                found += [Entry(str(one["path"]), int(one["size"]), one["last_modified"]) for one in batch]
        except obstore.exceptions.BaseError as error:
            raise self._failure("list", prefix, error) from error
        return sorted(found, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> Sequence[str]:
        """The names of the folders directly below `prefix`, in order."""
        try:
            found = self.store.list_with_delimiter(_checked(prefix) + "/")
        except obstore.exceptions.BaseError as error:
            raise self._failure("list", prefix, error) from error
        return sorted(PurePosixPath(path).name for path in found["common_prefixes"])

    # --- writing

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, replacing what is there."""
        with self.staging(key) as path:
            path.write_bytes(data)

    def create(self, key: str, data: bytes) -> None:
        """Write a small object that must be new; raises AlreadyExistsError if another writer was first."""
        if self.is_local:
            with self.scratch() as folder:
                temporary = folder / "object"
                temporary.write_bytes(data)
                _sync(temporary)
                target = self.path / _checked(key)
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(temporary, target)
                    _sync(target.parent)
                except FileExistsError:
                    raise AlreadyExistsError(f"{self.uri(key)} exists already") from None
                except OSError as error:
                    raise self._failure("write", key, error) from error
            return
        try:
            self.store.put(_checked(key), data, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            raise AlreadyExistsError(f"{self.uri(key)} exists already") from None
        except obstore.exceptions.BaseError as error:
            raise self._failure("write", key, error) from error

    @contextmanager
    def staging(self, key: str) -> Iterator[Path]:
        """A temporary local file to fill; it becomes `key` when the block ends without an exception."""
        with self.scratch() as folder:
            temporary = folder / PurePosixPath(_checked(key)).name
            yield temporary
            self.publish(temporary, key)

    def publish(self, file: Path, key: str) -> None:
        """Move the local file `file` (in a `scratch()` folder) into the lake as `key`, replacing what is
        there."""
        if self.is_local:
            target = self.path / _checked(key)
            try:
                _sync(file)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
                _sync(target.parent)
            except OSError as error:
                raise self._failure("write", key, error) from error
            return
        try:
            with file.open("rb") as stream:
                self.store.put(_checked(key), stream, chunk_size=_PART_SIZE)
        except obstore.exceptions.BaseError as error:
            raise self._failure("write", key, error) from error

    @contextmanager
    def parquet_writer(self, key: str, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
        """A Parquet writer (zstd, no writer-specific metadata) whose file becomes `key` when the block
        ends well."""
        with self.staging(key) as path:
            chosen = {"compression": "zstd", "compression_level": 1, "store_schema": False, **options}
            with pq.ParquetWriter(path, schema, **chosen) as writer:
                yield writer

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder, on the lake's own disk where that is local; removed when the block ends."""
        parent: Path | None = None
        if self.is_local:
            parent = self.path / ".tmp"
            parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_owner() + "-", dir=parent) as folder:
            yield Path(folder)

    def delete(self, key: str) -> None:
        """Remove `key`; one that is absent already is no error."""
        try:
            self.store.delete(_checked(key))
        except FileNotFoundError:
            return
        except obstore.exceptions.BaseError as error:
            raise self._failure("delete", key, error) from error

    # --- engines

    @contextmanager
    def connect(self, memory_limit: str = "2GB") -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection that reads `uri(...)` of this lake, spills to disk and never downloads an
        extension."""
        # Whoever only stores photographs needs no database in memory.
        import duckdb

        with duckdb.connect(config={**DUCKDB_CONFIG, "memory_limit": memory_limit}) as connection:
            self.attach(connection)
            try:
                yield connection
            finally:
                self.detach(connection)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection read `uri(...)` of this lake (on S3 through fsspec: httpfs is a
        download) and spill."""
        temporary = tempfile.gettempdir() if not self.is_local else str(self.path / ".tmp")
        # Neither may be set twice once it is in use.
        if connection.execute("SELECT current_setting('temp_directory')").fetchall() != [(temporary,)]:
            connection.execute("SET temp_directory = ?", [temporary])
        if not self.is_local and "s3" not in connection.list_filesystems():
            filesystem = FsspecStore("s3", client_options={"allow_http": True}, **self._s3_config())
            connection.register_filesystem(filesystem)

    def detach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Undo `attach`; DuckDB never lets go of a filesystem by itself."""
        if "s3" in connection.list_filesystems():
            connection.unregister_filesystem("s3")

    # --- inside

    def _failure(self, verb: str, key: str, error: Exception) -> LakeError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return LakeError(f"cannot {verb} {self.uri(key)}: {reason}; check LAKEHOUSE_ROOT and its credentials")

    def _sweep(self) -> None:
        """Remove temporary folders that dead processes of this machine left behind."""
        for folder in (self.path / ".tmp").glob("*-*-*"):
            # From the right: a machine whose name begins with this one's may share the disk.
            host, pid, _ = folder.name.rsplit("-", 2)
            if host == socket.gethostname() and pid.isdecimal() and not _alive(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)


class _Ranges(io.RawIOBase):
    """An object of a store as Python's files are, which Arrow expects."""

    def __init__(self, opened: obstore.ReadableFile) -> None:
        self._opened = opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._opened.read(len(buffer))
        buffer[: len(data)] = memoryview(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._opened.seek(offset, whence)

    def tell(self) -> int:
        return self._opened.tell()


def open_lake(root: str | None = None, settings: Settings | None = None, *, to_read: bool = False) -> Lake:
    """The lake at `root`, or at LAKEHOUSE_ROOT; opened `to_read` it must be there, else NotFoundError."""
    settings = settings or load_settings()
    place = root or settings.root
    if to_read and "://" not in place and not Path(place).expanduser().is_dir():
        raise NotFoundError(
            f"there is no lake at {place}; set LAKEHOUSE_ROOT, or make one with lakehouse build"
        )
    return Lake(place, settings)


def _checked(key: str) -> str:
    if key.startswith("/") or "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise LakeError(f"{key!r} is not a key of the lake")
    return key


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
