"""What mkdocs does besides: the repository's other pages in the site, links that work there too, formulas."""

import base64
import os
import re
from collections.abc import Iterator
from html import escape
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BOARDS = ROOT / "leaderboards"
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
NUMBER = re.compile(r"<td>((?:[-+±–.,%<>()\d\s]|to|mean|</?strong>|</?u>)+)</td>")
FORMULA = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the leaderboards, and every file of the repository that a page links to."""
    boards = [*sorted(BOARDS.glob("*.md")), BOARDS / "reported" / "README.md"]
    pages = [*sorted(DOCS.rglob("*.md")), *boards]
    linked = {path for page in pages for path in _linked(page)}
    for path in sorted({*boards, *(p for p in linked if not p.is_relative_to(DOCS) and p.is_file())}):
        if path != ROOT / "README.md" and files.get_file_from_path(_uri(path)) is None:
            files.append(File.generated(config, _uri(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between places of the repository into links between places of the site."""
    here = _source(page.file.src_uri)
    if here.is_relative_to(BOARDS):
        page.meta["hide"] = ["toc"]  # the width is the table's

    def moved(match: re.Match[str]) -> str:
        if ":" in match[2]:
            return match[0]
        to = os.path.relpath(_uri((here.parent / match[2]).resolve()), Path(page.file.src_uri).parent)
        return match[1] + Path(to).as_posix() + match[3]

    return FORMULA.sub(lambda match: _drawn(match[1].strip()), LINK.sub(moved, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep numbers and intervals on one line: wide tables scroll."""
    html = NUMBER.sub(r'<td class="number">\1</td>', html)
    return f'<div class="board">{html}</div>' if page.file.src_uri.startswith("leaderboards/") else html


def _linked(page: Path) -> Iterator[Path]:
    """Files that a page links to."""
    for _, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        if ":" not in target:
            yield (page.parent / target).resolve()


def _drawn(formula: str) -> str:
    """A formula as a picture with paths for letters: it needs no script and no font."""
    buffer = BytesIO()
    with rc_context({"mathtext.fontset": "cm", "svg.fonttype": "path", "svg.hashsalt": formula}):
        math_to_image(f"${formula}$", buffer, prop=FontProperties(size=12), format="svg")
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue().decode(), flags=re.DOTALL)
    picture = base64.b64encode(text.encode()).decode()
    return f'<img class="formula" alt="{escape(formula)}" src="data:image/svg+xml;base64,{picture}">'


def _source(uri: str) -> Path:
    """The file of the repository behind a place of the site."""
    return DOCS / uri if (DOCS / uri).exists() else ROOT / uri


def _uri(path: Path) -> str:
    """The place of a file of the repository in the site; the front page stands for the README."""
    if path == ROOT / "README.md":
        return "index.md"
    return path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()
