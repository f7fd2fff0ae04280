"""The Hugging Face Hub through its own client: patient with passing faults, and every error one sentence.

The client is imported when it is needed: it takes a second, and its telemetry must be off before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import CatalogError, UsageError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PAUSES = (1.0, 4.0, 15.0)  # seconds before the second, third and fourth attempt of one call
_Result = TypeVar("_Result")


class HubRefusedError(CatalogError):
    """The Hub answered with an error; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well succeed in a while."""
        return self.status in (429, 500, 502, 503, 504)


class Hub:
    """One repository of datasets on the Hub, `organisation/name`; calls raise CatalogError."""

    def __init__(self, repo: str, settings: Settings) -> None:
        if settings.hf_token is None:
            raise UsageError("set HF_TOKEN to a token that may write to Hugging Face repositories")
        self.repo = repo
        self._token = settings.hf_token.get_secret_value()
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        self.endpoint = settings.hf_endpoint.rstrip("/")
        self._api = HfApi(endpoint=self.endpoint, token=self._token, library_name="lakehouse")

    @property
    def page(self) -> str:
        """The repository's web page."""
        return f"{self.endpoint}/datasets/{self.repo}"

    def call(self, what: Callable[[HfApi], _Result], *, patient: bool = True) -> _Result:
        """`what(api)`, tried again (if it is safe to repeat: `patient`) where the fault is a passing one."""
        for pause in (*(PAUSES if patient else ()), None):
            try:
                with self._told():
                    return what(self._api)
            except HubRefusedError as error:
                if pause is None or not error.is_passing:
                    raise
                time.sleep(pause)
        raise AssertionError

    def on_repo(self, name: str, **arguments: Any) -> Any:
        """The method `name` of the client on this repository, patiently."""
        return self.call(lambda api: getattr(api, name)(self.repo, repo_type="dataset", **arguments))

    def list_all(self, name: str, **arguments: Any) -> list[Any]:
        """What a method of the client yields page by page, as a list; patiently."""
        return self.call(
            lambda api: list(getattr(api, name)(self.repo, repo_type="dataset", **arguments)),
        )

    def text(self, path: str, revision: str = "main") -> bytes | None:
        """The bytes of a small file, None if it is not there."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(self.repo, path, repo_type="dataset", revision=revision, endpoint=self.endpoint)

        def fetch(_: HfApi) -> bytes | None:
            answer = get_session().get(url, headers=build_hf_headers(token=self._token))
            if answer.status_code == 404:
                return None
            hf_raise_for_status(answer)
            return bytes(answer.content)

        return self.call(fetch)

    @contextmanager
    def _told(self) -> Iterator[None]:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except (HfHubHTTPError, httpx2.HTTPError, RuntimeError, ValueError, OfflineModeIsEnabled) as error:
            # A failed upload is wrapped by the client; what it wraps says more.
            found: BaseException = error
            while not isinstance(found, HfHubHTTPError | httpx2.HTTPError) and found.__cause__:
                found = found.__cause__
            # Not chained: the client's own text could quote a request.
            if isinstance(found, HfHubHTTPError) and found.response is not None:
                raise self._refused(found.response.status_code, found.server_message) from None
            if isinstance(found, httpx2.HTTPError | OfflineModeIsEnabled):
                reason = self._clean(str(found) or type(found).__name__)
                raise CatalogError(
                    f"{self.endpoint} cannot be reached: {reason}; check the network and HF_ENDPOINT, then "
                    "publish again: what was uploaded is not uploaded twice"
                ) from None
            raise CatalogError(
                f"{self.page} was not published: {self._clean(str(found))}; publish again to go on"
            ) from None

    def _refused(self, status: int, detail: str | None) -> HubRefusedError:
        said = f" ({self._clean(detail)})" if detail and "<" not in detail else ""
        advice = {
            401: "HF_TOKEN is not known to it; make a new one with write access in its settings",
            403: f"HF_TOKEN may not write to {self.repo!r}; give it write access to that namespace",
            404: f"{self.repo!r} is not there, or HF_TOKEN may not see it; check publish.huggingface.repo",
            409: f"{self.repo!r} was changed by someone else meanwhile; publish again",
            412: f"{self.repo!r} was changed by someone else meanwhile; publish again",
            413: "a file is too large for it; make the exported archives smaller",
            429: "too many requests; wait some minutes, then publish again to go on",
        }.get(status, "publish again to go on; what was uploaded is not uploaded twice")
        return HubRefusedError(f"{self.endpoint} answered {status}{said}: {advice}", status)

    def _clean(self, text: str) -> str:
        line = " ".join(text.split()).replace(self._token, "********").rstrip(".")
        return line if len(line) <= 200 else line[:199] + "…"
