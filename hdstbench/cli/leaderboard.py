"""hdstbench leaderboard: tables from stored records, and records for others to check."""

import click

from hdstbench.cli.options import verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", help="Copy records and tables there, to be committed; in place by default.")
@click.option("--reproduction", help="Also write a page: the MagNet paper's numbers beside those in SOURCE.")
@verbose
def leaderboard(source: str, output: str | None, reproduction: str | None) -> None:
    """Write the tables of every job in SOURCE again, from its records alone."""
    from hdstbench.cli.leaderboard_job import execute  # noqa: PLC0415 - heavy

    for path in execute(source, output):
        click.echo(f"table: {path}")
    if reproduction:
        from hdstbench.cli.leaderboard_job import write_reproduction  # noqa: PLC0415 - heavy

        click.echo(f"page: {write_reproduction(source, reproduction)}")
