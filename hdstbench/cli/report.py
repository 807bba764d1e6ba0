"""hdstbench report: the options; the work is in report_job."""

from pathlib import Path

import click

from hdstbench.cli.options import Words, verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder; report/ or figures/ by default."
)
@click.option("--static", is_flag=True, help="Figures for a paper instead of a page.")
@click.option("--format", "formats", type=Words(), help="Of figures: png (by default), pdf, svg, or a list.")
@click.option("--genes", type=Words(), help="Genes whose maps are shown beside those with the best ceilings.")
@click.option(
    "-m", "--models", type=Words(), help="Rows whose maps are shown; models and the better ridge by default."
)
@verbose
def report(
    run: Path,
    output: Path | None,
    formats: tuple[str, ...] | None,
    genes: tuple[str, ...] | None,
    models: tuple[str, ...] | None,
    *,
    static: bool,
) -> None:
    """Show RUN, the -o folder of a run or leaderboards/, as a page that opens from disk, with maps."""
    if formats and not static:
        message = "--format is for figures; give --static, too"
        raise click.UsageError(message)
    from hdstbench.cli.report_job import Asked, execute  # noqa: PLC0415 - heavy

    asked = Asked(
        run=run,
        output=output,
        formats=(formats or ("png",)) if static else (),
        genes=genes or (),
        models=models or (),
    )
    for line in execute(asked):
        click.echo(line)
