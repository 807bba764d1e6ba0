"""The docs as a site: no warning, links that lead somewhere, nothing loaded from elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from hdstbench.report.markdown import FLAGS

pytest.importorskip("mkdocs", reason="mkdocs is not installed; make test installs it")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = ("http:", "https:", "mailto:", "//")


class Reader(HTMLParser):
    """Collects what a page links to and loads, its anchors and the text of its paragraphs."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.formulas = 0
        self.paragraphs: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        self.links += [found["href"]] if tag == "a" and "href" in found else []
        loads = "href" if tag == "link" and found.get("rel") != "canonical" else "src"
        self.loads += [found[loads]] if loads in found else []
        self.formulas += found.get("class") == "formula"
        self._open = tag == "p" if tag in ("p", "pre", "table", "ul", "ol") else self._open
        if tag == "p":
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open &= tag != "p"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; any warning ends the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Reader]:
    """Every page of the site, as read."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = Reader()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_page_of_the_docs_is_there(site: Path) -> None:
    wanted = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]

    assert len(wanted) > 30
    assert [str(path) for path in wanted if not (site / path).is_file()] == []
    assert (site / "leaderboards" / "index.html").is_file()
    assert not (site / "theme" / "hooks.py").exists()


def test_every_page_of_the_docs_is_in_the_navigation() -> None:
    from mkdocs.config import load_config  # noqa: PLC0415 - may not be installed

    named = list(_leaves(load_config(str(ROOT / "mkdocs.yml")).nav))

    assert len(named) == len(set(named))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - set(named) == set()


def _leaves(nav: object) -> Iterator[str]:
    """Files that a navigation names."""
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _leaves(item)


def test_links_and_pictures_lead_to_files_and_anchors(site: Path, pages: dict[Path, Reader]) -> None:
    broken = [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in (*page.links, *page.loads)
        if not link.startswith((*ELSEWHERE, "data:")) and not _leads(path, link, site, pages)
    ]

    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def _leads(path: Path, link: str, site: Path, pages: dict[Path, Reader]) -> bool:
    place, _, anchor = link.partition("#")
    if path.name == "404.html" and place.startswith("/"):
        path, place = site / "404.html", place.lstrip("/") or "index.html"
    target = (path.parent / unquote(place)).resolve() if place else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return False
    return not anchor or target not in pages or unquote(anchor) in pages[target].anchors


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Reader]) -> None:
    loaded = {load for page in pages.values() for load in page.loads if load.startswith(ELSEWHERE)}
    outside = re.compile(r"(url\(|@import)\W*(https?:)?//")
    styles = [path for path in site.rglob("*.css") if outside.search(path.read_text())]

    assert loaded == set()
    assert styles == []


def test_lists_of_the_source_are_lists_on_the_page(pages: dict[Path, Reader]) -> None:
    """GitHub does without an empty line before a list, and with two spaces for one within another."""
    run_on = [
        f"{path.name}: {text[:80]}"
        for path, page in pages.items()
        for text in page.paragraphs
        if re.search(r"\n *([-*]|\d\.) ", text)
    ]

    flat = [
        page.name for page in DOCS.rglob("*.md") if re.search(r"^ {1,3}[-*] ", page.read_text(), re.MULTILINE)
    ]
    assert (run_on, flat) == ([], [])


def test_formulas_are_drawn(site: Path, pages: dict[Path, Reader]) -> None:
    source = (DOCS / "metrics.md").read_text()

    assert pages[site / "metrics.html"].formulas == source.count("\n$$\n") // 2 > 5
    assert not any("$$" in text for page in pages.values() for text in page.paragraphs)


def test_the_reading_page_explains_every_flag() -> None:
    text = (DOCS / "reading.md").read_text().split("## Flags")[1].split("## An example")[0]

    explained = re.findall(r"`([a-z-]+)`", text.split("Those up to")[0])
    assert sorted(explained) == sorted(FLAGS)
