"""Fetch what `hdstbench data fetch` asks for, or what a run misses."""

import shlex
from collections.abc import Callable, Sequence

import click
from rich.filesize import decimal

from hdstbench.cli.fetch_view import Say, showing
from hdstbench.data.card import Dataset, load_dataset
from hdstbench.data.fetch import ask_sizes, fetch, free_bytes
from hdstbench.data.fetch import verify as verify_files
from hdstbench.data.wanted import Wanted, plan_fetch
from hdstbench.errors import MissingError
from hdstbench.protocol.splits import load_split


def execute(
    dataset: str,
    *,
    only: Sequence[str],
    mirror: str,
    dry_run: bool,
    verify: bool = False,
    say: Say = click.echo,
) -> None:
    """Fetch the files of a data set.

    Args:
        dataset: A shipped name or the path of a card.
        only: Ids of samples or parts of file names; empty for the samples of the first split, "all"
            for every one.
        mirror: Address that takes the place of the card's; may be empty.
        dry_run: Say what would come and how big it is, without the network.
        verify: Compare what is there with its checksums instead.
        say: Takes lines.

    Raises:
        HdstError: If there is nothing that can be fetched, or a file cannot be.
    """
    data = load_dataset(dataset)
    if data.card.simulated and not any(sample.files for sample in data.card.samples):
        say(f"{data.card.name} is simulated: `hdstbench run` makes its files, there is nothing to fetch")
        return
    wanted = plan_fetch(data, only=_samples(data, only), mirror=mirror)
    if dry_run:
        _list(data, wanted, say)
    elif verify:
        _verify(data, wanted, say)
    else:
        _fetch(data, _sized(_missing(wanted), say), say)
        say(f"{_count(wanted)} of {data.card.name} are in {data.root}")


def _samples(dataset: Dataset, only: Sequence[str]) -> Sequence[str]:
    if only or not dataset.card.splits:
        return () if tuple(only) == ("all",) else only
    slides = load_split(dataset, None).slides
    files = {sample.id: sample.files for sample in dataset.card.samples}
    return slides if all(files[slide] for slide in slides) else ()


def ask_and_fetch(
    dataset: Dataset,
    *,
    mirror: str,
    yes: bool,
    say: Say,
    confirm: Callable[[str], bool] | None,
    only: Sequence[str] = (),
) -> None:
    """Fetch what is missing of a data set after saying what that is and asking for leave.

    Args:
        dataset: The data set.
        mirror: Address that takes the place of the card's; may be empty.
        yes: Leave is given.
        say: Takes lines.
        confirm: Asks a question; None where nobody can answer.
        only: Ids of the samples that are needed; empty for all.

    Raises:
        HdstError: If there is no leave, nothing that can be fetched, or a file cannot be.
    """
    missing = _missing(plan_fetch(dataset, only=only, mirror=mirror))
    if not missing:
        return
    if yes or confirm:
        missing = _sized(missing, say)
    _list(dataset, missing, say)
    if not yes and not (confirm and confirm(f"Fetch {_sum(missing)} now?")):
        command = _command(dataset, only, mirror)
        msg = f"{_count(missing)} of {dataset.card.name} are not there; to fetch them, type: {command}"
        raise MissingError(msg)
    _fetch(dataset, missing, say)


def _sized(missing: Sequence[Wanted], say: Say) -> list[Wanted]:
    with showing(missing, say) as report:
        return ask_sizes(missing, report)


def _fetch(dataset: Dataset, missing: Sequence[Wanted], say: Say) -> None:
    if missing:
        say(f"{dataset.card.name}: fetching {_count(missing)}, {_sum(missing)}, from {_origin(missing)}")
        with showing(missing, say) as report:
            fetch(missing, dataset.root, report)


def _verify(dataset: Dataset, wanted: Sequence[Wanted], say: Say) -> None:
    there = [one for one in wanted if one.state == "there"]
    with showing(there, say) as report:
        verify_files(there, dataset.root, report)
    absent = len(wanted) - len(there)
    say(f"{_count(there)} of {dataset.card.name} are right{f'; {absent} are not there' if absent else ''}")


def _list(dataset: Dataset, wanted: Sequence[Wanted], say: Say) -> None:
    say(f"{dataset.card.name}: {_count(wanted)} from {_origin(wanted)} into {dataset.root}")
    for one in wanted:
        state = f"{decimal(one.have)} are there" if one.state == "partial" else one.state
        say(f"  {one.sample:8} {_size(one):>14}  {state:8}  {one.file.path}")
    missing = _missing(wanted)
    free = decimal(free_bytes(dataset.root))
    say(
        f"{_sum(wanted)} in all, {_sum(missing) if missing else 'nothing'} to fetch; {free} free on that disk"
    )


def _missing(wanted: Sequence[Wanted]) -> list[Wanted]:
    return [one for one in wanted if one.state != "there"]


def _count(wanted: Sequence[Wanted]) -> str:
    return f"{len(wanted)} file{'' if len(wanted) == 1 else 's'}"


def _size(one: Wanted) -> str:
    if not one.size:
        return "size unknown"
    return decimal(one.size) if one.exact else f"about {decimal(one.size)}"


def _sum(wanted: Sequence[Wanted]) -> str:
    """Bytes to come."""
    known = [one for one in wanted if one.size]
    unknown = len(wanted) - len(known)
    about = "" if all(one.exact for one in known) else "about "
    parts = [f"{about}{decimal(sum(one.size for one in known))}"] if known else []
    parts += [f"{unknown} of unknown size"] if unknown else []
    return " and ".join(parts)


def _origin(wanted: Sequence[Wanted]) -> str:
    return wanted[0].url.removesuffix(f"/{wanted[0].file.path}")


def _command(dataset: Dataset, only: Sequence[str], mirror: str) -> str:
    """What to type for the same files."""
    words = ["hdstbench", "data", "fetch", dataset.handle]
    words += ["--only", ",".join(only)] if only else []
    return shlex.join(words + (["--mirror", mirror] if mirror else []))
