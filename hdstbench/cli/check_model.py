"""hdstbench check-model: whether models keep the contract; the work is in check_model_job."""

import click


@click.command("check-model", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--recipe", default="tiny", show_default=True, help="Recipe that is fitted.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of what models raise.")
def check_model(names: tuple[str, ...], recipe: str, *, verbose: bool) -> None:
    """Try the models NAME..., or all, on small planted slides; exit with 1 if one breaks the contract."""
    from hdstbench.cli.check_model_job import execute  # noqa: PLC0415 - heavy

    if not execute(names, recipe, click.echo, verbose=verbose):
        raise SystemExit(1)
