"""The command line. Nothing heavy is imported until a command needs it."""

import importlib
import logging
import sys
import traceback
from difflib import get_close_matches

import click

from hdstbench import __version__
from hdstbench.errors import HdstError, one_line

COMMANDS = {
    "run": "Train and score models, and write the table.",
    "ls": "List models, data sets, recipes.",
    "data": "Fetch, check, convert, import, export and simulate data.",
    "status": "Say how far a running or dead sweep is.",
    "audit": "Look for leaks in data, splits and encoders.",
    "check-model": "Try models on planted slides: do they keep the contract?",
    "new-model": "Write a package with a model to begin from.",
    "score": "Score predictions that were made elsewhere.",
    "predict": "Apply a trained model to a whole slide.",
    "gate": "Hold tables against a baseline, for CI.",
    "report": "Show a run as a page with maps, or as figures.",
    "leaderboard": "Write the tables of finished runs again.",
    "doctor": "Look at this installation and say what is missing.",
}
BAD_INPUT = 2
UNEXPECTED = 70
"""sysexits.h's EX_SOFTWARE: the fault is ours."""
INTERRUPTED = 130
GO_ON = {"run", "fetch"}
"""Commands that take up what was done before they were stopped."""


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are explained."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import one command."""
        if cmd_name not in COMMANDS:
            close = get_close_matches(cmd_name, COMMANDS) or list(COMMANDS)
            msg = f"no command {cmd_name!r}; did you mean {', '.join(close)}?"
            raise click.UsageError(msg)
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"hdstbench.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hdstbench")
def cli() -> None:
    """Train and compare models that predict the gene expression of Visium HD bins from H&E."""


def main() -> None:
    """Run a command; what goes wrong is one line, or a traceback with -v."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # else dozens of lines on a broken TIFF
    try:
        cli.main(prog_name="hdstbench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (HdstError, OSError) as error:
        if _verbose():
            traceback.print_exc()
        click.echo(f"error: {one_line(error)}", err=True)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"stopped; {_after_stop()}", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if _verbose():
            traceback.print_exc()
        hint = "please report it, with what -v shows"
        click.echo(f"error: unexpected {type(error).__name__}: {one_line(error)}; {hint}", err=True)
        sys.exit(UNEXPECTED)


def _after_stop() -> str:
    if GO_ON & set(sys.argv[1:3]):
        return "the same command goes on from here"
    return "nothing half-written is left behind"


def _verbose() -> bool:
    return bool({"-v", "--verbose"} & set(sys.argv))
