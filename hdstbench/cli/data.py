"""hdstbench data: files of data sets."""

from typing import Any

import click

from hdstbench.cli.options import Words, verbose


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """Fetch, check, convert, import, export and simulate data."""


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


@data.command()
@click.argument("dataset")
@click.option("--only", type=Words(), help="Samples, or parts of file names; all for every sample.")
@click.option("--mirror", default="", help="Take the files from this base address instead of the card's.")
@click.option("--dry-run", is_flag=True, help="List what would come and how big it is, and stop.")
@click.option("--verify", is_flag=True, help="Compare what is there with its checksums, and stop.")
@verbose
def fetch(dataset: str, only: tuple[str, ...] | None, **given: Any) -> None:  # noqa: ANN401 - click's
    """Download the files of DATASET, a shipped name or the path of a card; goes on where it stopped.

    By default the samples of its first split are fetched.
    """
    from hdstbench.cli.fetch_job import execute  # noqa: PLC0415 - heavy

    execute(dataset, only=only or (), **given)


@data.command()
@click.argument("path")
@click.option("--image", help="The full-resolution H&E, if PATH is a Space Ranger folder.")
@click.option("-o", "--output", default="check", show_default=True, help="Folder for report and overlays.")
@verbose
def check(path: str, image: str | None, output: str) -> None:
    """Look at a Space Ranger folder or a whole data set and say what is wrong, with overlays to look at."""
    from hdstbench.cli.check_job import execute  # noqa: PLC0415 - heavy

    if not execute(path, image or "", output, click.echo):
        raise SystemExit(1)


@data.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, help="The tiled TIFF to write.")
@click.option("--run", "run_folder", help="Space Ranger folder: crop to it, take its um a pixel.")
@click.option("--margin-um", default=200.0, show_default=True, help="Kept around the capture area.")
@click.option("--mpp", type=float, help="um a pixel, where there is no --run.")
@click.option("--quality", default=92, show_default=True, help="JPEG quality.")
@verbose
def convert(image: str, output: str, **given: object) -> None:
    """Turn a picture that cannot be read by region into a cropped, tiled pyramid."""
    from hdstbench.cli.convert_job import execute  # noqa: PLC0415 - heavy

    execute(image, output, given, click.echo)


@data.command(name="import")
@click.argument("source", type=click.Path(exists=True))
@click.option("-o", "--output", required=True, help="New folder for the card and its splits.")
@click.option("--image", help="The H&E, if SOURCE is one .h5ad.")
@click.option("--mpp", type=float, help="um a pixel of that image.")
@click.option("--patient", help="Whose slide it is; the name of the file by default.")
@verbose
def import_(source: str, output: str, **given: object) -> None:
    """Make a data set of a HEST-1k folder, a HEST-Bench task, or .h5ad files with spatial coordinates."""
    from hdstbench.cli.import_job import execute  # noqa: PLC0415 - heavy

    click.echo(f"dataset: {execute(source, output, given)}")


@data.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False))
@click.option("-o", "--output", required=True, help="The .h5ad to write.")
@verbose
def export(source: str, output: str) -> None:
    """Write a prepared slide, or the predictions of a cell, as AnnData."""
    from hdstbench.cli.export_job import execute  # noqa: PLC0415 - heavy

    click.echo(f"anndata: {execute(source, output)}")
