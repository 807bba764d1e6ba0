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
PLOTLY = "plotly.min.js"


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
    """Refuse a folder that a report would mix with.

    Raises:
        DataError: If it is there and is no earlier report.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        msg = f"{folder} is there and holds no report; choose another folder with -o"
        raise DataError(msg)
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; choose a folder with -o"
        raise DataError(msg)


def write_page(folder: Path, jobs: Sequence[Json]) -> None:
    """Write the page and its data; its pictures are there already."""
    for name in ASSETS:
        text = files("hdstbench.report.html").joinpath("assets", name).read_text(encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
    (folder / PLOTLY).write_text(plotly_script(), encoding="utf-8")
    content = json.dumps({"version": __version__, "jobs": list(jobs)}, allow_nan=False, separators=(",", ":"))
    (folder / "data.js").write_text(f"window.HDSTBENCH = {content};\n", encoding="utf-8")
