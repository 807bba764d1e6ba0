"""hdstbench score: the options; the work is in score_job."""

import click

from hdstbench.cli.options import Numbers, Words, verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("predictions", nargs=-1, required=True, type=click.Path())
@click.option(
    "--task", type=click.Path(), help="The record.json of a cell that names data set, split and so on."
)
@click.option("-d", "--dataset", type=Words(), help="Data set, or path of its card.")
@click.option("-r", "--res", type=Words(), help="Resolution such as 16um.")
@click.option("--split", help="A split of the card; the first by default.")
@click.option("--folds", type=Numbers(), help="Folds; those whose test slides are all predicted by default.")
@click.option("--protocol", type=click.Choice(["hd", "magnet-paper"]), help="How units and genes are chosen.")
@click.option("--panel", help="A list of genes of the card.")
@click.option("--target", help="What was predicted: a target by name.")
@click.option("--genes", type=Words(), help="Marker genes that were added to the panel.")
@click.option("--bins", type=click.Choice(["sample", "all"]), help="Sampled blocks, or all of the tissue.")
@click.option(
    "--like",
    type=click.Choice(["hest", "triplex", "magnet", "hetosge"]),
    help="What that paper's code would print.",
)
@click.option("--as", "name", help="Enter the predictions into the tables of a run under this name.")
@click.option("--by", default="", help="Who made them.")
@click.option("--code", default="", help="By what code: an address and a version.")
@click.option("-o", "--output", help="Folder of the run that they enter; runs/default by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@verbose
def score(predictions: tuple[str, ...], *, as_json: bool, **given: str | None) -> None:
    """Score predictions that were made elsewhere, as a sweep would have.

    PREDICTIONS: .npz as a run leaves them or the folder of a cell, .h5ad as `data export` writes them, or
    .parquet with the columns slide, array_row, array_col and one a gene.
    """
    from hdstbench.cli.score_job import Entry, How, execute  # noqa: PLC0415 - heavy

    task, like, name, by, code = (given.pop(key) or "" for key in ("task", "like", "name", "by", "code"))
    asked = {key: value for key, value in given.items() if value is not None}
    entry = Entry(name=name, by=by, code=code) if name else None
    how = How(task=task, like=like, entry=entry, as_json=as_json)
    for line in execute(predictions, asked, how):
        click.echo(line)
