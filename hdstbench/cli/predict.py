"""hdstbench predict: the options; the work is in predict_job."""

from pathlib import Path

import click

from hdstbench.cli.options import Words, verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-m", "--model", required=True, type=click.Path(path_type=Path), help="Folder of a cell with its model."
)
@click.option("-s", "--slide", required=True, type=click.Path(path_type=Path), help="Full-resolution H&E.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="An .h5ad file.")
@click.option("--mpp", default="auto", help="um a pixel of the slide; auto takes what the file says.")
@click.option("--to", default="", help="Size of the units, such as 8um; the model's own by default.")
@click.option(
    "--tissue", type=click.Choice(["auto", "all"]), default="auto", help="Units in tissue alone, or all."
)
@click.option(
    "--places", type=click.Path(path_type=Path), help="A tissue_positions.parquet: predict at its bins."
)
@click.option("--genes", type=Words(), help="Genes of the map; those that vary most by default.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where it runs.")
@click.option("--weights", default="", help="Weights that the model started from, if they have been moved.")
@verbose
def predict(**given: object) -> None:
    """Predict a whole slide by a model that a sweep kept (`run --keep-models`), from its image alone."""
    from hdstbench.cli.predict_job import Asked, execute  # noqa: PLC0415 - heavy

    for line in execute(Asked.of(given)):
        click.echo(line)
