"""The `lakehouse` command: exit 0 done, 1 failed or gate exceeded, 2 wrong usage or campaign; `--json` on
every command."""

from __future__ import annotations

import sys

import typer

from lakehouse.cli import campaigns, demo, system, upkeep, versions
from lakehouse.cli.output import fail
from lakehouse.errors import LakehouseError

app = typer.Typer(
    name="lakehouse",
    help="Open biodiversity data into trusted, citable, refreshable image datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (demo, campaigns, versions, upkeep, system):
    commands.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; every expected error is one sentence."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        result = typer.main.get_command(app)(args=arguments, prog_name="lakehouse", standalone_mode=False)
    except LakehouseError as error:
        sys.exit(fail(str(error), error.exit_code, as_json))
    except typer.TyperException as error:
        sys.exit(_misused(error, as_json))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(fail("interrupted; run the same command again to go on from here", 130, as_json))
    sys.exit(result if isinstance(result, int) else 0)


def _misused(error: typer.TyperException, as_json: bool) -> int:
    """Say what is wrong with the command and where the right usage stands; returns the exit code."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if not message:  # no command was given, and the help was shown
        return 2
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    return fail(message + hint, 2, as_json)
