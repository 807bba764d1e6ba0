"""Write the report of a run: a page with maps, or figures."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdstbench.cli.leaderboard_job import find_plans
from hdstbench.cli.report_maps import Found, chosen_genes, drawn_models, find_maps, mapped_slides, whole_rows
from hdstbench.data.card import cache_root
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.target import find_target
from hdstbench.report.board import Board, load_board
from hdstbench.report.html.content import GeneTable, Json, job_content, load_genes
from hdstbench.report.html.folder import MAPS, PAGE, check_output, plotly_script, replace_folder, write_page
from hdstbench.report.html.maps import write_slide
from hdstbench.report.html.raster import ERROR_LEVELS, ERROR_PALETTE, PALETTE, colours
from hdstbench.report.still import Still, check_formats, write_figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for; with `formats` it is figures."""

    run: Path
    output: Path | None
    formats: tuple[str, ...]
    genes: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One table with what its maps are drawn from; `no_rows` and `no_genes` were asked for in vain."""

    board: Board
    table: GeneTable
    found: Found
    models: list[str]
    genes: list[str]
    asked: frozenset[str]
    no_rows: frozenset[str]
    no_genes: frozenset[str]


def execute(asked: Asked) -> Iterator[str]:
    """Write a report.

    Yields:
        What was written, a line each.

    Raises:
        MissingError: If there is no table, or no table has what was asked for.
        DataError: If a record is broken, or the output is something else.
    """
    check_formats(asked.formats)
    shown = asked.output or Path("figures" if asked.formats else "report")
    output = shown.resolve()
    if asked.formats and output.exists() and not output.is_dir():
        msg = f"{shown} is a file; choose a folder with -o"
        raise DataError(msg)
    if not asked.formats:
        check_output(output)
        plotly_script()
    jobs = sorted(
        (_job(path, asked) for path in find_plans(str(asked.run))), key=lambda job: job.board.plan.stem
    )
    _check_names(jobs, asked.run)
    yield from (f"{job.board.plan.stem}: {line}" for job in jobs for line in job.found.without)
    if asked.formats:
        yield from _write_figures(jobs, shown, asked.formats)
    else:
        _write_page(jobs, output)
        yield f"report: {shown / PAGE}"


def _check_names(jobs: Sequence[Job], run: Path) -> None:
    """Refuse what no table has."""
    for name in sorted(frozenset.intersection(*(job.no_rows for job in jobs))):
        there = dict.fromkeys(row for job in jobs for row in whole_rows(job.board))
        msg = f"-m {name}: no whole row but an oracle of a table of {run}; there are {', '.join(there)}"
        raise MissingError(msg)
    for name in sorted(frozenset.intersection(*(job.no_genes for job in jobs))):
        if not any(job.found.symbols for job in jobs):
            msg = (
                f"--genes {name}: no gene id of {run}, and symbols are known only where its slides are "
                f"prepared, of which none is in {cache_root()}"
            )
            raise MissingError(msg)
        msg = f"--genes {name}: not among the genes that {run} predicted; run with --genes {name}"
        raise MissingError(msg)


def _job(path: Path, asked: Asked) -> Job:
    board = load_board(path)
    table = load_genes(board, path.parent)
    models, no_rows = drawn_models(board, asked.models)
    found = find_maps(board, path.parent, models)
    genes, by_name = chosen_genes(table, found.symbols, asked.genes)
    return Job(
        board=board,
        table=table,
        found=found,
        models=models,
        genes=genes,
        no_rows=frozenset(no_rows),
        asked=frozenset(by_name.values()),
        no_genes=frozenset(name for name, gene in by_name.items() if not gene),
    )


def _write_page(jobs: Sequence[Job], output: Path) -> None:
    """Write everything aside, then put it in its place."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as name:
        aside = Path(name)
        part = aside / "report"
        part.mkdir()
        write_page(part, [_content(job, part) for job in jobs])
        replace_folder(part, output, aside)


def _content(job: Job, part: Path) -> Json:
    """Everything the page shows of a table; its pictures are written."""
    symbols, plan = job.found.symbols, job.board.plan
    slides = [
        write_slide(part, f"{MAPS}/{plan.stem}/s{i}", shown, job.genes, job.models)
        for i, shown in enumerate(mapped_slides(job.found))
    ]
    target = find_target(job.board.task["target"])
    maps: Json = {
        "models": job.models,
        "genes": [
            {"id": gene, "name": symbols.get(gene, gene), "asked": gene in job.asked} for gene in job.genes
        ],
        "slides": slides,
        "unit": target.words,
        "palette": _css(PALETTE, 16),
        "error_palette": _css(ERROR_PALETTE, ERROR_LEVELS),
    }
    return {**job_content(job.board, job.table, symbols), "maps": maps, "without": list(job.found.without)}


def _css(name: str, count: int) -> list[str]:
    return [f"rgb({r} {g} {b})" for r, g, b in colours(name, count).tolist()]


def _write_figures(jobs: Sequence[Job], output: Path, formats: Sequence[str]) -> Iterator[str]:
    for job in jobs:
        if not whole_rows(job.board):
            yield f"no figures of {job.board.plan.stem}: no row of it is whole yet"
            continue
        shown = next(mapped_slides(job.found), None)
        names = [(gene, job.found.symbols.get(gene, gene)) for gene in job.genes]
        still = Still(board=job.board, table=job.table, shown=shown, genes=names)
        for path in write_figures(output, still, formats):
            yield f"figure: {path}"
