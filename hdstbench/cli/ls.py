"""hdstbench ls: what is installed, from metadata alone where that is enough."""

import click

from hdstbench.cli.options import verbose
from hdstbench.errors import HdstError, one_line


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@verbose
@click.pass_context
def ls(ctx: click.Context) -> None:
    """List models and data sets, or tell about one."""
    if ctx.invoked_subcommand is None:
        click.echo("models")
        ctx.invoke(models)
        click.echo("data sets")
        ctx.invoke(datasets)


@ls.command()
def models() -> None:
    """Installed models, the packages that bring them and their versions; what cannot be loaded is BROKEN."""
    from hdstbench.plugins.registry import broken, found, origin  # noqa: PLC0415

    reasons = broken()
    for name, point in found().items():
        why = f"  BROKEN: {' '.join(reasons[name].split())}" if name in reasons else ""
        click.echo(f"  {name:28}{origin(point)}{why}")


@ls.command()
def datasets() -> None:
    """Data sets whose cards are installed; what cannot be read is BROKEN."""
    from hdstbench.data.card import GROUP, load_dataset, shipped  # noqa: PLC0415

    for name in shipped():
        try:
            dataset = load_dataset(name)
        except HdstError as error:
            _tell_broken(name, one_line(error))
            continue
        there = "simulated on first use" if dataset.card.simulate else f"not in {dataset.root}"
        there = f"in {dataset.root}" if dataset.root.is_dir() else there
        click.echo(f"  {name:28}{', '.join(dataset.card.resolutions)}: {dataset.card.title} ({there})")
    _tell_packages(GROUP)


@ls.command()
def presets() -> None:
    """Sweeps that installed packages bring, for `hdstbench run --preset`."""
    from hdstbench.sweep.rows import GROUP, find_preset  # noqa: PLC0415
    from hdstbench.sweep.rows import presets as found  # noqa: PLC0415

    for name in found():
        try:
            first = find_preset(name).read_text(encoding="utf-8").partition("\n")[0]
            click.echo(f"  {name:28}{first.removeprefix('#').strip()}")
        except (HdstError, OSError, UnicodeDecodeError) as error:
            _tell_broken(name, one_line(error))
    _tell_packages(GROUP)


def _tell_broken(name: str, why: str) -> None:
    click.echo(f"  {name:28}BROKEN: {why}")


def _tell_packages(group: str) -> None:
    from hdstbench.data.packaged import broken_packages  # noqa: PLC0415

    for name in broken_packages(group):
        _tell_broken(name, "its files cannot be listed; update or uninstall it")


@ls.command()
@click.argument("name")
@click.option("--card", is_flag=True, help="As a markdown page, like those under docs/models.")
def model(name: str, *, card: bool) -> None:
    """Print what NAME says of itself and its recipes."""
    from hdstbench.plugins.registry import load_model  # noqa: PLC0415

    plugin = load_model(name)
    if card:
        from hdstbench.report.modelcard import model_card  # noqa: PLC0415

        click.echo(model_card(plugin), nl=False)
        return
    click.echo(f"{plugin.name} ({plugin.kind}; a prediction depends on its {plugin.context})")
    click.echo(f"paper: {plugin.paper}\nlicence of the authors' code: {plugin.licence}\n{plugin.notes}")
    for recipe, config in plugin.recipes.items():
        click.echo(f"  {recipe}: {config}")


@ls.command()
@click.argument("name")
def dataset(name: str) -> None:
    """Print the card of NAME."""
    from hdstbench.data.card import load_dataset  # noqa: PLC0415

    card = load_dataset(name).card
    click.echo(f"{card.name}: {card.title}\nlicence: {card.licence}\ncite: {card.citation}")
    click.echo(f"resolutions: {', '.join(card.resolutions)}\nsplits: {', '.join(card.splits)}")
    for sample in card.samples:
        click.echo(f"  {sample.id:8} patient {sample.patient}  {sample.tissue}")
