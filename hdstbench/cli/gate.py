"""hdstbench gate: the options; the work is in gate_job."""

from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from hdstbench.cli.options import Words, verbose
from hdstbench.errors import HdstError, one_line

BAD_INPUT = 4


class _BadUsage(click.UsageError):
    exit_code = BAD_INPUT


class _Gate(click.Command):
    """A command whose exit codes are all its own: 2 is a gain here, so bad usage is 4."""

    @override
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _BadUsage(error.format_message(), error.ctx) from error


@click.command(cls=_Gate, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("current", type=click.Path(path_type=Path))
@click.option("--baseline", required=True, type=click.Path(path_type=Path), help="What to hold it against.")
@click.option("--tolerances", type=click.Path(path_type=Path), help="A TOML file; docs/ci.md has its keys.")
@click.option("-m", "--models", type=Words(), help="Rows that are compared; all by default.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the markdown there, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@verbose
def gate(
    current: Path,
    baseline: Path,
    tolerances: Path | None,
    models: tuple[str, ...] | None,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Hold CURRENT against a baseline: tables in JSON, folders of them, or folders of runs.

    Exit codes: 0 all is as it was, 1 something got worse, failed or vanished, 2 something got better than
    it should, 3 nothing to compare, 4 bad input.
    """
    from hdstbench.cli.gate_job import execute  # noqa: PLC0415 - heavy

    try:
        code, text = execute(current, baseline, tolerances, models or (), as_json=as_json)
        if output is not None:
            output.write_text(text, encoding="utf-8")
    except (HdstError, OSError) as error:
        click.echo(f"error: {one_line(error)}", err=True)
        raise SystemExit(BAD_INPUT) from error
    click.echo(text, nl=False)
    raise SystemExit(code)
