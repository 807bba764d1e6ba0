"""Write a report: a folder with one page, its script, and its pictures, whole or not at all."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from hdstbench import __version__
from hdstbench.errors import DataError, MissingError
from hdstbench.report.html.content import Json

PAGE = "index.html"
ASSETS = (PAGE, "report.css", "table.js", "plots.js", "maps.js", "report.js")
PLOTLY, DATA, MAPS = "plotly.min.js", "data.js", "maps"
BEGIN = "window.HDSTBENCH = "
"""How the data of a report begin."""


def plotly_script() -> str:
    """The script that draws the plots.

    Raises:
        MissingError: If plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = "the report needs plotly, which is not installed; pip install 'hdstbench[report]'"
        raise MissingError(msg) from error
    return str(get_plotlyjs())


def check_output(folder: Path) -> None:
    """Refuse a place where a report would take the place of something else.

    Raises:
        DataError: If it is a file, the working directory, or a folder that is no earlier report.
    """
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; choose a folder with -o"
        raise DataError(msg)
    if Path.cwd().is_relative_to(folder):
        msg = f"{folder} holds the working directory; choose another folder with -o"
        raise DataError(msg)
    if folder.is_dir() and not _is_report(folder):
        msg = f"{folder} is there and holds more than a report; choose another folder with -o"
        raise DataError(msg)


def _is_report(folder: Path) -> bool:
    """Whether a folder holds an earlier report and nothing else, or nothing."""
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    data = folder / DATA
    begins = data.is_file() and data.read_bytes()[: len(BEGIN)].decode(errors="replace") == BEGIN
    return begins and names <= {*ASSETS, PLOTLY, DATA, MAPS}


def replace_folder(part: Path, folder: Path, aside: Path) -> None:
    """Put a finished report in its place; an earlier one goes aside, and comes back if that fails."""
    if not folder.exists():
        part.rename(folder)
        return
    old = aside / "old"
    folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        old.rename(folder)
        raise


def write_page(folder: Path, jobs: Sequence[Json]) -> None:
    """Write the page and its data; its pictures are there already."""
    for name in ASSETS:
        text = files("hdstbench.report.html").joinpath("assets", name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    (folder / PLOTLY).write_text(plotly_script(), encoding="utf-8")
    content = json.dumps({"version": __version__, "jobs": list(jobs)}, allow_nan=False, separators=(",", ":"))
    (folder / DATA).write_text(f"{BEGIN}{content};\n", encoding="utf-8")
