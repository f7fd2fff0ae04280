"""Talking to a CKAN: one call, with every way it can fail told as one sentence that says what to do.

The token is in no message: not in the sentence, and the exceptions that could carry it are not chained.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import requests
from ckanapi import (
    CKANAPIError,
    NotAuthorized,
    NotFound,
    RemoteCKAN,
    SearchError,
    SearchIndexError,
    SearchQueryError,
    ServerIncompatibleError,
    ValidationError,
)

from lakehouse.errors import CatalogError
from lakehouse.settings import Settings

_TIMEOUT = (10, 120)  # seconds to connect, and to wait for an answer; ckanapi itself waits for ever


class CkanRefusedError(CatalogError):
    """CKAN understood the call and may not allow it (403)."""


class CkanMissingError(CatalogError):
    """What the call names is not in CKAN (404)."""


class CkanInvalidError(CatalogError):
    """CKAN found the data wrong, or changed by someone else meanwhile (409)."""


class CkanBrokenError(CatalogError):
    """CKAN failed on its side (5xx); what was asked for may have been done all the same."""

    transient = True


class CkanUnreachableError(CatalogError):
    """CKAN does not answer, or not in time."""

    transient = True


class Ckan:
    """An open connection to the CKAN of the settings; a context manager.

    Raises
    ------
    CatalogError
        The settings name no CKAN, or no token although there is something to write.
    """

    def __init__(self, settings: Settings, writing: bool = False) -> None:
        if not settings.ckan_url:
            raise CatalogError("no CKAN is set to publish to; set LAKEHOUSE_CKAN_URL")
        if writing and not settings.ckan_token:
            raise CatalogError(f"{settings.ckan_url} takes nothing without a token; set LAKEHOUSE_CKAN_TOKEN")
        self.url = settings.ckan_url.rstrip("/")
        self._token = settings.ckan_token.get_secret_value() if settings.ckan_token else None
        self._remote = RemoteCKAN(self.url, apikey=self._token, user_agent="lakehouse")

    def __enter__(self) -> Ckan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remote.close()

    def page(self, name: str) -> str:
        """The address of a dataset's page."""
        return f"{self.url}/dataset/{name}"

    def call(self, action: str, hint: str = "", **data: Any) -> Any:
        """The result of an action.

        Parameters
        ----------
        action
            Its name in CKAN's API, such as `package_show`.
        hint
            What to do if CKAN does not allow it.
        data
            Its parameters.

        Raises
        ------
        CatalogError
            One of its subclasses above where CKAN answered, else CatalogError itself.
        """
        try:
            return self._remote.call_action(action, data, requests_kwargs={"timeout": _TIMEOUT})
        except NotAuthorized as error:
            raise CkanRefusedError(self._refused(action, error, hint)) from None
        except NotFound:
            subject = data.get("id") or data.get("name") or "what was asked for"
            raise CkanMissingError(f"{self.url} has no {subject!r} ({action})") from None
        except ValidationError as error:
            raise CkanInvalidError(self._clean(f"{self.url} refused {action}: {_reasons(error)}")) from None
        except (SearchQueryError, SearchError, SearchIndexError) as error:
            message = (
                f"{self.url} failed at {action}: its search index does not answer ({error}); try again later"
            )
            raise CkanBrokenError(self._clean(message)) from None
        except ServerIncompatibleError:
            raise CatalogError(f"{self.url} is not a CKAN; correct LAKEHOUSE_CKAN_URL") from None
        except CKANAPIError as error:
            raise self._unexpected(action, error) from None
        except requests.exceptions.Timeout:
            raise CkanUnreachableError(
                f"{self.url} did not answer {action} in time; try again later"
            ) from None
        except (requests.exceptions.InvalidHeader, UnicodeError):
            raise CatalogError("LAKEHOUSE_CKAN_TOKEN is not a token: it holds a character none has") from None
        except requests.exceptions.ConnectionError:
            message = f"{self.url} cannot be reached; check LAKEHOUSE_CKAN_URL and that the CKAN is running"
            raise CkanUnreachableError(message) from None
        except requests.exceptions.RequestException as error:
            message = f"{self.url} cannot be asked ({type(error).__name__}); check LAKEHOUSE_CKAN_URL"
            raise CatalogError(message) from None

    def _refused(self, action: str, error: Exception, hint: str) -> str:
        if self._token is None:
            return f"{self.url} does not allow {action} without a token; set LAKEHOUSE_CKAN_TOKEN"
        advice = hint or "check LAKEHOUSE_CKAN_TOKEN and the rights of its user"
        return self._clean(f"{self.url} does not allow {action}{_message(error)}; {advice}")

    def _unexpected(self, action: str, error: CKANAPIError) -> CatalogError:
        status, body = _answer(error)
        if status in (301, 302, 303, 307, 308):
            return CatalogError(
                f"{self.url} has moved (HTTP {status}); set LAKEHOUSE_CKAN_URL to its new address"
            )
        if "<html" in body[:2000].lower() and (status is None or status < 500):
            message = f"{self.url} answered {action} with a web page, not as a CKAN (HTTP {status})"
            return CatalogError(
                f"{message}; correct LAKEHOUSE_CKAN_URL, which is the address of its front page"
            )
        if status is not None and status >= 500:
            return CkanBrokenError(
                f"{self.url} failed at {action} (HTTP {status}); see the CKAN's log, try again later"
            )
        return CatalogError(self._clean(f"{self.url} does not know {action} (HTTP {status}): {body[:200]}"))

    def _clean(self, message: str) -> str:
        return message.replace(self._token, "***") if self._token else message


def _message(error: Exception) -> str:
    """What CKAN said, in brackets; its own error objects carry a mapping."""
    said = error.args[0] if error.args else None
    text = said.get("message") if isinstance(said, Mapping) else said
    return f" ({' '.join(str(text).split()).removeprefix('Access denied: ')})" if text else ""


def _reasons(error: Exception) -> str:
    """The fields CKAN found wrong, as `field: reason`."""
    found = getattr(error, "error_dict", None)
    if not isinstance(found, Mapping):
        return str(error)
    fields = {name: reasons for name, reasons in found.items() if name != "__type"}
    return "; ".join(f"{name}: {_flat(reasons)}" for name, reasons in fields.items()) or "no reason given"


def _flat(reasons: Any) -> str:
    if isinstance(reasons, Mapping):
        return ", ".join(f"{name}: {_flat(reason)}" for name, reason in reasons.items())
    if isinstance(reasons, list):
        return ", ".join(_flat(reason) for reason in reasons if reason)
    return " ".join(str(reasons).split())


def _answer(error: CKANAPIError) -> tuple[int | None, str]:
    """Status and body of an answer ckanapi could not read; it keeps them as the repr of [url, status,
    body]."""
    try:
        _, status, body = ast.literal_eval(str(error))
    except (ValueError, SyntaxError, TypeError):
        return None, str(error)
    return int(status), str(body)
