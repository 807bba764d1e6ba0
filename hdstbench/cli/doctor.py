"""hdstbench doctor: what this installation has and lacks."""

import click

from hdstbench.cli.options import verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@verbose
def doctor() -> None:
    """Check versions, device, folders, disk and weights; exit with 1 if something is missing."""
    from hdstbench.cli.doctor_job import execute  # noqa: PLC0415 - heavy

    if not execute(click.echo):
        raise SystemExit(1)
