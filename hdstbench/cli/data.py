"""hdstbench data: files of data sets."""

import click

from hdstbench.cli.options import verbose


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """Simulate data sets."""


@data.command()
@click.option("-o", "--output", help="New folder; a name made from the options in the cache by default.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything that is drawn.")
@click.option("--slides", default=4, show_default=True, help="Slides, each of its own patient.")
@click.option("--size-mm", default=1.3, show_default=True, help="Side of the capture area.")
@click.option(
    "--signal",
    type=click.Choice(["all", "bin", "neighbourhood", "region"]),
    default="all",
    show_default=True,
    help="The one level that acts on expression, or all.",
)
@click.option("--overdispersion", default=1.0, show_default=True, help="Scale of the bursts; 0 is Poisson.")
@click.option("--shift-um", default=0.0, show_default=True, help="Registration error of the counts.")
@click.option("--labels", default="", help="CSV of a cell type per 8 um bin that serves as the tissue.")
@verbose
def simulate(output: str | None, **given: object) -> None:
    """Simulate Visium HD slides as Space Ranger output with an H&E-like image each.

    Run models on them with: hdstbench run --dataset FOLDER/dataset.toml
    """
    from hdstbench.cli.simulate_job import execute  # noqa: PLC0415 - heavy

    click.echo(f"dataset: {execute(output, given)}")
