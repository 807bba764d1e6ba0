"""hdstbench run: the options; the work is in run_job."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hdstbench.cli.options import Numbers, Words, verbose

if TYPE_CHECKING:
    from hdstbench.sweep.worker import Worker


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-m", "--models", type=Words(), help="Models, or all.")
@click.option("-d", "--dataset", type=Words(), help="Data sets, or paths of their cards.")
@click.option("-r", "--res", type=Words(), help="Resolutions such as 8um,16um, or all.")
@click.option("--preset", help="A sweep that an installed package brings; hdstbench ls presets names them.")
@click.option("--split", help="A split of the card; the first by default.")
@click.option("--folds", type=Numbers(), help="Folds; all by default.")
@click.option("--seeds", type=Numbers(), help="Seeds of training; 0 by default.")
@click.option(
    "--protocol", type=click.Choice(["hd", "magnet-paper"]), help="hd, or the MagNet paper's preparation."
)
@click.option("--target", help="A transform of counts such as egn-minmax; docs/targets.md lists them.")
@click.option("--panel", help="A list of genes of the card, instead of the training slides' top 250.")
@click.option(
    "--genes", type=Words(), help="Marker genes, ids or symbols, added to the panel and the report."
)
@click.option("--recipe", help="official, common, quick, ...; the card's by default.")
@click.option("--encoder", help="Replace the image encoder of models that have one.")
@click.option("--weights", help="pretrained, none, or a weights file.")
@click.option("--bins", type=click.Choice(["sample", "all"]), help="Sampled blocks, or all of the tissue.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where models compute.")
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16"]), help="Of training and prediction.")
@click.option("--deterministic", is_flag=True, default=None, help="The same bits on every run, on a GPU too.")
@click.option("--compile", is_flag=True, default=None, help="Compile networks before training.")
@click.option("--workers", type=int, help="Processes; one a core, or one on a GPU, by default.")
@click.option("--timeout", type=float, help="Seconds that a cell may take.")
@click.option(
    "--memory", type=float, help="MiB of memory that a cell may take; most of the machine's by default."
)
@click.option("--executor", type=click.Choice(["local", "ray"]), help="Where cells run; local by default.")
@click.option("--address", help="Of the Ray cluster: auto, HOST:PORT, or local to start one.")
@click.option(
    "--share", type=click.Choice(["shared", "store"]), help="Ray nodes see the same files, or get them sent."
)
@click.option("--keep-models", is_flag=True, default=None, help="Keep fitted models, for hdstbench predict.")
@click.option("-o", "--output", help="Folder of records and tables; runs/default by default.")
@click.option(
    "--overwrite",
    type=click.Choice(["never", "stale", "always"]),
    help="Results to make again; stale by default.",
)
@click.option("-C", "--config", "sweep_file", default="", help="Sweep file; ./hdstbench.toml by default.")
@click.option("--mirror", help="Fetch files of the data set from this base address.")
@click.option("-y", "--yes", is_flag=True, help="Fetch what is missing without asking.")
@click.option("--dry-run", is_flag=True, help="Say what would run and what it takes, and stop.")
@click.option(
    "--probe", is_flag=True, help="With --dry-run: fit one cell of each model for up to 20 s to estimate."
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first cell that fails.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
@verbose
def run(
    sweep_file: str,
    *,
    dry_run: bool,
    probe: bool,
    fail_fast: bool,
    as_json: bool,
    yes: bool,
    **given: object,
) -> None:
    """Train and score models on data sets, resume where it stopped, and write the tables."""
    asked = {name: value for name, value in given.items() if value is not None}
    if probe and not dry_run:
        msg = "--probe is of a dry run; give --dry-run --probe to estimate, or neither to run"
        raise click.UsageError(msg)
    flags = {"dry_run": dry_run, "probing": probe, "fail_fast": fail_fast, "as_json": as_json, "yes": yes}
    with _started(asked, wanted=not dry_run) as worker:
        from hdstbench.cli.run_job import execute  # noqa: PLC0415 - heavy

        ok = execute(asked, sweep_file, **flags, started=worker)
    if not ok:
        raise SystemExit(1)


@contextmanager
def _started(asked: Mapping[str, Any], *, wanted: bool) -> "Iterator[Worker | None]":
    """Start a worker at once, so that it imports what it needs while this process does the same."""
    from hdstbench.sweep.worker import start_worker  # noqa: PLC0415 - light, but of no other command

    if not wanted or asked.get("executor") == "ray":
        yield None
        return
    worker = start_worker(asked.get("models", ()))
    try:
        yield worker
    finally:
        worker.drop()
