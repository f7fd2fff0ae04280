"""Every error a user can meet: one hierarchy, each message saying what was found, where, and what to do.

`exit_code` is what the command line ends with: 1 for a job that failed, 2 for wrong usage or a wrong campaign
file.
"""

from __future__ import annotations


class LakehouseError(Exception):
    """Base of all errors this project raises on purpose; its text is one sentence fit to show to a user.

    `transient` says that the same work may succeed in a few minutes, so that whoever automates it may try
    again.
    """

    exit_code = 1
    transient = False


class CampaignError(LakehouseError):
    """The campaign file, or something it names (a taxon, a licence, a rank), is wrong."""

    exit_code = 2


class UsageError(LakehouseError):
    """The command or a setting is wrong."""

    exit_code = 2


class SourceError(LakehouseError):
    """The source cannot be reached, or what it serves breaks its contract (header, integrity, size)."""


class UnreachableError(SourceError):
    """The source does not answer, or breaks off: nothing is known about what it holds."""

    transient = True


class LakeError(LakehouseError):
    """The lake cannot be read or written, or what it holds is damaged."""


class AlreadyExistsError(LakeError):
    """An object that must be new is already there: another writer was first."""


class NotFoundError(LakeError):
    """A named snapshot, version, release or object is not in the lake."""


class WithdrawnError(NotFoundError):
    """A snapshot was withdrawn because photos were taken out of it; the message names its successor."""


class GateError(LakehouseError):
    """A campaign's gate was exceeded: the work done so far is saved, and the run counts as failed."""


class CatalogError(LakehouseError):
    """A catalogue (CKAN, the Hub) refused or could not be reached; nothing is half-published."""
