"""hdstbench audit: the options; the work is in audit_job."""

import click

from hdstbench.cli.options import Numbers, Words, verbose


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-m", "--models", type=Words(), help="Models whose encoders are looked at, or all.")
@click.option("-d", "--dataset", type=Words(), help="Data sets, or paths of their cards.")
@click.option("-r", "--res", type=Words(), help="Resolutions such as 8um,16um, or all.")
@click.option("--split", help="A split of the card; the first by default.")
@click.option("--folds", type=Numbers(), help="Folds; all by default.")
@click.option("--protocol", type=click.Choice(["hd", "magnet-paper"]), help="How units and genes are chosen.")
@click.option("--panel", help="A list of genes of the card.")
@click.option("--target", help="A target by name.")
@click.option("--recipe", help="Of the models; the card's by default.")
@click.option("--encoder", help="Replace the image encoder of models that have one.")
@click.option("--weights", help="pretrained, none, or a weights file.")
@click.option("--bins", type=click.Choice(["sample", "all"]), help="Sampled blocks, or all of the tissue.")
@click.option("--mirror", help="Fetch files of the data set from this base address.")
@click.option("-C", "--config", "sweep_file", default="", help="Sweep file; ./hdstbench.toml by default.")
@click.option("-y", "--yes", is_flag=True, help="Fetch what is missing without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print each finding as a JSON line.")
@verbose
def audit(sweep_file: str, *, as_json: bool, yes: bool, **given: object) -> None:
    """Look for leaks: would a run on these data be fair?

    Ends with 0 if there is nothing but notes, 1 with warnings, which a run would show as flags, 3 with
    errors, which would stop it; 2 is bad input.
    """
    from hdstbench.cli.audit_job import execute  # noqa: PLC0415 - heavy

    asked = {name: value for name, value in given.items() if value is not None}
    raise SystemExit(execute(asked, sweep_file, as_json=as_json, yes=yes))
