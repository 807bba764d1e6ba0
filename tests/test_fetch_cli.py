"""`hdstbench data fetch` as a user types it, and what a run does when files are missing."""

import io
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import CONTENT, make_dataset, serve
from helpers import type_command
from rich.console import Console
from web import Fault, Web

from hdstbench.cli.fetch_job import ask_and_fetch, execute
from hdstbench.cli.fetch_view import showing
from hdstbench.data.card import Dataset, RemoteFile, load_dataset
from hdstbench.data.fetch import Progress, fetch
from hdstbench.data.wanted import plan_fetch
from hdstbench.errors import DataError, MissingError

CARD = """
name = "toy"
title = "Toy"
reader = "spaceranger"
licence = "CC0-1.0"
citation = "nobody"
resolutions = ["8um"]
base_url = "{url}"
[[samples]]
id = "A"
patient = "a"
path = "A"
files = [{{ path = "a.bin", about = 2400000 }}]
[[samples]]
id = "B"
patient = "b"
path = "B"
files = [{{ path = "b.bin" }}]
"""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def card(web: Web, tmp_path: Path) -> Path:
    """A card whose data folder is its own."""
    path = tmp_path / "cohort" / "dataset.toml"
    path.parent.mkdir()
    path.write_text(CARD.format(url=web.url))
    return path


def run(card: Path, *, only: tuple[str, ...] = (), mirror: str = "", **flags: bool) -> str:
    """What `hdstbench data fetch` says."""
    lines: list[str] = []
    options = {"dry_run": False, **flags}
    execute(str(card), only=only, mirror=mirror, say=lines.append, **options)
    return "\n".join(lines)


def test_the_command_fetches_and_a_second_one_has_nothing_to_do(card: Path, web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567)}
    words = ("data", "fetch", "cohort")

    first = type_command(*words, cwd=tmp_path, cache=tmp_path / "cache")
    web.log.clear()
    second = type_command(*words, cwd=tmp_path, cache=tmp_path / "cache")

    assert (first.returncode, first.stderr) == (0, "")
    for line in (
        f"toy: fetching 2 files, 5.0 MB, from {web.url}",
        "[1/2] fetching a.bin: 2.5 MB",
        "[1/2] fetching a.bin: the connection was dropped; trying again in 1 s (1 of 7)",
        "[1/2] whole a.bin: 2.5 MB, sha256 recorded",
        f"2 files of toy are in {card.parent}",
    ):
        assert line in first.stdout.splitlines()
    assert (card.parent / "a.bin").read_bytes() == CONTENT
    assert second.stdout == f"2 files of toy are in {card.parent}\n"
    assert not web.log


def test_a_dry_run_lists_sizes_and_states_without_the_network(card: Path, web: Web) -> None:
    (card.parent / "a.bin.part").write_bytes(b"12345")

    text = run(card, dry_run=True)

    assert f"toy: 2 files from {web.url} into {card.parent}" in text
    assert "  A          about 2.4 MB  5 bytes are there  a.bin" in text
    assert "  B          size unknown  missing   b.bin" in text
    assert "about 2.4 MB and 1 of unknown size in all" in text
    assert "free on that disk" in text
    assert not web.log


def test_a_dry_run_of_a_fetched_set_says_so(card: Path) -> None:
    run(card, only=("A",))

    text = run(card, dry_run=True)

    assert "2.5 MB  there     a.bin" in text
    assert "2.5 MB and 1 of unknown size in all, 1 of unknown size to fetch" in text


def test_verify_says_how_many_are_right_and_which_is_not(card: Path) -> None:
    run(card, only=("A",))

    text = run(card, verify=True)
    (card.parent / "a.bin").write_bytes(CONTENT[::-1])

    assert "checking a.bin: 2.5 MB" in text
    assert "1 file of toy are right; 1 are not there" in text
    with pytest.raises(DataError, match=r"a.bin: its sha256 is"):
        run(card, verify=True)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ("her2st", 2, "lists no files to fetch; get them from https://github.com/almaan/her2st and put them"),
        ("demo", 0, "demo is simulated: `hdstbench run` makes its files"),
        ("crcc", 2, "no data set 'crcc'; did you mean crc"),
        ("crc --only P6CRC", 2, "is called 'P6CRC'; did you mean P5CRC"),
        ("crc --mirror ftp://x", 2, "--mirror is 'ftp://x'; wanted http"),
        ("crc --mirror http://127.0.0.1:1/y", 2, "no connection (Connection refused)"),
        ("crc --dry-run", 0, "about 12.5 GB  missing   Visium_HD_Human_Colon_Cancer_P1/"),
    ],
)
def test_what_a_newcomer_may_type_gets_one_line(words: str, code: int, line: str, tmp_path: Path) -> None:
    done = type_command("data", "fetch", *words.split(), cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == code
    assert line in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if code else 0)


def ask(dataset: Dataset, *, yes: bool = False, answer: bool | None = None, **given: object) -> list[str]:
    """What a run says, and asks, when files are missing."""
    lines: list[str] = []

    def confirm(question: str) -> bool:
        lines.append(question)
        return bool(answer)

    options = {"mirror": "", "yes": yes, **given}
    ask_and_fetch(
        dataset,
        say=lines.append,
        confirm=None if answer is None else confirm,
        **options,  # type: ignore[arg-type]
    )
    return lines


def test_a_run_says_what_will_come_and_how_big_before_it_asks(card: Path, web: Web) -> None:
    lines = ask(load_dataset(str(card)), answer=True)

    at = lines.index("Fetch 5.0 MB now?")
    assert lines[0] == f"toy: 2 files from {web.url} into {card.parent}"
    assert lines[1].split() == ["A", "2.5", "MB", "missing", "a.bin"]
    assert not any("fetching" in line for line in lines[:at])
    assert (card.parent / "b.bin").read_bytes() == CONTENT


def test_a_run_that_has_leave_does_not_ask(card: Path, web: Web) -> None:
    lines = ask(load_dataset(str(card)), yes=True, answer=True, only=("B",))

    assert lines[0] == f"toy: 1 file from {web.url} into {card.parent}"
    assert not any("?" in line for line in lines)
    assert not (card.parent / "a.bin").exists()
    assert (card.parent / "b.bin").is_file()


@pytest.mark.parametrize("answer", [False, None])
def test_without_leave_nothing_comes_and_the_command_is_named(
    answer: bool | None, card: Path, web: Web, tmp_path: Path
) -> None:
    dataset = load_dataset(str(card))

    with pytest.raises(MissingError, match=r"2 files of toy are not there; to fetch them, type: ") as caught:
        ask(dataset, answer=answer, mirror=web.url, only=("A", "B"))

    command = shlex.split(str(caught.value).split("type: ")[1])
    assert not web.asked("GET")
    assert command[1:] == ["data", "fetch", str(card.parent), "--only", "A,B", "--mirror", web.url]
    assert type_command(*command[1:], cwd=tmp_path, cache=tmp_path / "cache").returncode == 0
    assert ask(dataset) == []


def test_the_command_of_a_shipped_set_has_its_name(tmp_path: Path) -> None:
    with pytest.raises(
        MissingError, match=r"8 files of crc .* type: hdstbench data fetch crc --only P1CRC,P2"
    ):
        ask(load_dataset("crc"), only=("P1CRC", "P2CRC", "P3NAT", "P5NAT"))


def test_lines_tell_each_tenth_of_a_big_file(tmp_path: Path) -> None:
    lines: list[str] = []
    wanted = plan_fetch(make_dataset(tmp_path, RemoteFile(path="a.bin", bytes=10**10)))

    with showing(wanted, lines.append, Console(file=io.StringIO())) as report:
        for done in range(0, 10**10, 10**8):
            report(Progress(path="a.bin", stage="fetching", done=done, total=10**10))

    assert lines[0] == "[1/1] fetching a.bin: 10.0 GB"
    assert lines[1:3] == ["[1/1] fetching a.bin: 1.0 GB (10%)", "[1/1] fetching a.bin: 2.0 GB (20%)"]
    assert len(lines) == 10


def test_a_terminal_gets_bars_and_what_went_wrong(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567)}
    dataset = make_dataset(tmp_path / "data", RemoteFile(path="a.bin"), base_url=web.url)
    screen, lines = io.StringIO(), list[str]()
    wanted = [replace(one, size=0) for one in plan_fetch(dataset)]

    with showing(wanted, lines.append, Console(file=screen, force_terminal=True, width=150)) as report:
        fetch(wanted, dataset.root, report)

    assert "fetching a.bin: the connection was dropped; trying again in 1 s (1 of 7)" in screen.getvalue()
    assert "whole a.bin: sha256 recorded" in screen.getvalue()
    assert "2.5/2.5 MB" in screen.getvalue()
    assert not lines


def test_the_samples_of_the_first_split_are_fetched_unless_others_are_asked_for() -> None:
    def listed(*only: str) -> set[str]:
        lines: list[str] = []
        execute("crc", only=only, mirror="", dry_run=True, say=lines.append)
        return {line.split()[0] for line in lines[1:-1]}

    assert listed() == {"P1CRC", "P2CRC", "P3NAT", "P5NAT"}
    assert listed("all") == {"P1CRC", "P2CRC", "P3NAT", "P5NAT", "P5CRC"}
    assert listed("P5CRC") == {"P5CRC"}
