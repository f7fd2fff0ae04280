"""What came from the network, checked and brought into the rendition asked for, beside the download."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from lakehouse.campaign import ImageSpec
from lakehouse.images.answers import Answer, Outcome, PhotoRequest, Problem
from lakehouse.images.fetch import Fetcher
from lakehouse.images.transform import render
from lakehouse.images.validate import ImageFacts, InvalidImage, glance, inspect
from lakehouse.settings import Check

Checked = Problem | tuple[bytes, ImageFacts]

_KEPT = 4 * 1024 * 1024  # bytes


class Checker:
    """Checks answers by one rule.

    Parameters
    ----------
    image
        The rendition that is stored.
    check
        `decode`: every image is decoded; `header`: only a JPEG's header and end mark are looked at.
    cores
        How many of them decoding may use.
    """

    def __init__(self, image: ImageSpec, check: Check = "decode", cores: int = 1) -> None:
        self._image = image
        self._inspect = glance if check == "header" else inspect
        # Looking at headers is quicker than handing it to a thread; on one core threads only take turns.
        decodes = check == "decode" or image.transformed
        self._threads = min(4, cores) if decodes and cores > 1 else 0
        if image.transformed:
            # The C library gives memory back to the system after every image and takes it again for the next,
            # a fifth of the time of a resize. glibc keeps up to twice the largest block that was ever freed.
            bytearray(_KEPT)

    def checked(
        self, fetcher: Fetcher, requests: Iterable[PhotoRequest]
    ) -> Generator[tuple[Answer, Checked], None, None]:
        """Every answer with what it holds, a bounded number of them under way at a time.

        Threads are enough: the decoders and the digest let go of Python's lock.
        """
        with closing(fetcher.fetch(requests)) as answers:
            if not self._threads:
                for answer in answers:
                    yield answer, self.check(answer)
                return
            with ThreadPoolExecutor(self._threads) as pool:
                waiting: deque[tuple[Answer, Future[Checked]]] = deque()
                for answer in answers:
                    waiting.append((answer, pool.submit(self.check, answer)))
                    while waiting and (len(waiting) > 2 * self._threads or waiting[0][1].done()):
                        done, result = waiting.popleft()
                        yield done, result.result()
                for done, result in waiting:
                    yield done, result.result()

    def check(self, answer: Answer) -> Checked:
        """The bytes to store with their facts, or why there are none."""
        if answer.problem:
            return answer.problem
        try:
            if self._image.transformed:
                return render(answer.body, self._image)
            return answer.body, self._inspect(answer.body)
        except InvalidImage as error:
            return Problem(Outcome.REJECTED, error.reason)
