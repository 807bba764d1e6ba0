"""hdstbench new-model: a package with a model to begin from."""

from pathlib import Path

import click

from hdstbench.cli.options import verbose


@click.command(name="new-model", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write; NAME by default.")
@verbose
def new_model(name: str, output: Path | None) -> None:
    """Write a package with the model NAME: code, tests of the contract, CI, card.

    It trains and passes its tests as it is.
    """
    from hdstbench.plugins.newmodel import write_package  # noqa: PLC0415 - as elsewhere

    folder = output or Path(name)
    for path in write_package(name, folder):
        click.echo(f"  {path}")
    click.echo(f"then: cd {folder} && pip install -e '.[dev]' && pytest")
    click.echo(f"and:  hdstbench run -m {name},mean,ridge -d demo -r 16um")
