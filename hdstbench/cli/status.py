"""hdstbench status: the options; the work is in status_job."""

import click

from hdstbench.cli.options import verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", default="runs/default")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a table.")
@verbose
def status(run: str, *, as_json: bool) -> None:
    """Say how far a sweep is that runs, was killed or is done: RUN is its -o folder."""
    from hdstbench.cli.status_job import lines  # noqa: PLC0415 - heavy

    for line in lines(run, as_json=as_json):
        click.echo(line)
