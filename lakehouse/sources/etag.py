"""What an ETag says of the bytes behind it, checked while they pass.

S3 gives the MD5 of an object that was put in one piece, and of one put in parts the MD5 of the parts'
MD5s with the number of parts behind it. Anything else (nginx's time and size, an object encrypted by a
key of its own) names a version and proves nothing: it is recorded as unverifiable.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

# Source: the exporter of iNaturalist Open Data uploads in parts of this size.
PART_SIZE = 500 << 20
# What other uploaders use, for mirrors; tried where they give the number of parts that the ETag names.
_OTHER_PARTS = tuple(
    mebibytes << 20 for mebibytes in (5, 8, 10, 15, 16, 25, 32, 50, 64, 100, 128, 256, 512, 1024)
)
_PLAIN = re.compile(r"[0-9a-f]{32}")
_MULTIPART = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,4})")

Verdict = Literal["md5", "multipart", "unverifiable", "wrong"]


class EtagCheck:
    """Takes in the bytes of one object and says in the end whether its ETag belongs to them.

    Parameters
    ----------
    etag
        Without quotes.
    size
        Bytes of the whole object.
    """

    def __init__(self, etag: str, size: int) -> None:
        self._parts: list[_Parts] = []
        self._plain = hashlib.md5(usedforsecurity=False) if _PLAIN.fullmatch(etag) else None
        self._etag = etag
        found = _MULTIPART.fullmatch(etag)
        if found:
            count = int(found[2])
            # One part is the whole object, however large parts may be.
            sizes = {
                min(part, max(size, 1)) for part in (PART_SIZE, *_OTHER_PARTS) if -(-size // part) == count
            }
            self._parts = [_Parts(part) for part in sorted(sizes)]
        self._is_ours = bool(found) and -(-size // PART_SIZE) == int(found[2] if found else 0)

    @property
    def possible(self) -> bool:
        """Whether the ETag is a digest that these bytes can be held against."""
        return self._plain is not None or bool(self._parts)

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        if self._plain is not None:
            self._plain.update(data)
        for parts in self._parts:
            parts.update(data)

    def verdict(self) -> Verdict:
        """What was found; `wrong` if the bytes are surely not those that were uploaded.

        Parts of a size that only a mirror would use prove the bytes where they agree, and nothing where
        they do not: the mirror may have cut them yet otherwise.
        """
        if self._plain is not None:
            return "md5" if self._plain.hexdigest() == self._etag else "wrong"
        if any(parts.etag() == self._etag for parts in self._parts):
            return "multipart"
        return "wrong" if self._is_ours else "unverifiable"


class _Parts:
    """The ETag that S3 gives to an object uploaded in parts of one size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._digests: list[bytes] = []
        self._digest = hashlib.md5(usedforsecurity=False)

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while len(view):
            taken = view[: self._left]
            self._digest.update(taken)
            self._left -= len(taken)
            view = view[len(taken) :]
            if not self._left:
                self._close()

    def _close(self) -> None:
        self._digests.append(self._digest.digest())
        self._digest, self._left = hashlib.md5(usedforsecurity=False), self._size

    def etag(self) -> str:
        digests = list(self._digests)
        if self._left < self._size:
            digests.append(self._digest.digest())
        whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        return f"{whole}-{len(digests)}"
