"""How a fetch shows what it does: bars on a terminal, lines elsewhere."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from hdstbench.data.fetch import Progress, Report, Stage
from hdstbench.data.wanted import Wanted

Say = Callable[[str], None]

NAME = 26
"""Characters of a name beside a bar, so that a line fits 80 columns."""

STEP_BYTES = 100 * 10**6
"""Lines about one file are at least this far apart, and a tenth of the file."""

WORDS: dict[Stage, str] = {
    "asking": "asking for",
    "checking": "checking",
    "fetching": "fetching",
    "whole": "whole",
}


@contextlib.contextmanager
def showing(wanted: Sequence[Wanted], say: Say, console: Console | None = None) -> Iterator[Report]:
    """Show a fetch while it goes on.

    Args:
        wanted: The files that are at stake.
        say: Takes lines where there is no terminal.
        console: Where bars go; standard error by default, so that they never mix with what is said.

    Yields:
        What to report to.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield Lines(wanted, say).show
        return
    with _bars(console) as bars:
        yield Bars(wanted, bars).show


class Lines:
    """A line when a file begins, every tenth of it, when something happens, and when it is whole."""

    def __init__(self, wanted: Sequence[Wanted], say: Say) -> None:
        self._number = {one.file.path: f"[{n}/{len(wanted)}]" for n, one in enumerate(wanted, 1)}
        self._say = say
        self._now: tuple[str, Stage] = ("", "asking")
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        """Say what is new."""
        if progress.stage == "asking" or (progress.note and self._now == (progress.path, progress.stage)):
            if progress.note:
                self._line(progress, progress.note)
            return
        step = max(progress.total / 10, STEP_BYTES)
        if self._now != (progress.path, progress.stage):
            self._now, self._next = (progress.path, progress.stage), progress.done + step
            size = progress.done if progress.stage == "whole" else progress.total
            note = f", {progress.note}" if progress.note else ""
            self._line(progress, f"{decimal(size) if size else 'size unknown'}{note}")
        elif self._next <= progress.done < (progress.total or float("inf")):
            self._next = progress.done + step
            share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
            self._line(progress, f"{decimal(progress.done)}{share}")

    def _line(self, progress: Progress, text: str) -> None:
        number = self._number.get(progress.path, "")
        self._say(f"{number} {WORDS[progress.stage]} {progress.path}: {text}")


class Bars:
    """A bar a file and one for all of them."""

    def __init__(self, wanted: Sequence[Wanted], bars: RichProgress) -> None:
        self._bars = bars
        self._sizes = {one.file.path: one.size for one in wanted}
        self._done = {one.file.path: one.have for one in wanted}
        self._tasks: dict[tuple[str, Stage], TaskID] = {}
        self._all = bars.add_task("all", total=None)

    def show(self, progress: Progress) -> None:
        """Move the bars; what a user should know is printed above them."""
        name = PurePosixPath(progress.path).name
        if progress.note:
            line = f"{WORDS[progress.stage]} {name}: {progress.note}"
            self._bars.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._sizes[progress.path] = progress.total or self._sizes.get(progress.path, 0)
        self._keep(progress, name)
        if progress.stage != "asking":
            self._done[progress.path] = progress.done
        self._bars.update(
            self._all, total=sum(self._sizes.values()) or None, completed=sum(self._done.values())
        )

    def _keep(self, progress: Progress, name: str) -> None:
        """One bar for what is done now."""
        now, total = (progress.path, progress.stage), progress.total or None
        for key in [key for key in self._tasks if key != now]:
            self._bars.remove_task(self._tasks.pop(key))
        if progress.stage == "whole":
            return
        if now not in self._tasks:
            words = f"{WORDS[progress.stage]} {_short(name)}"
            self._tasks[now] = self._bars.add_task(words, total=total, completed=progress.done)
        self._bars.update(self._tasks[now], total=total, completed=progress.done)


def _short(name: str) -> str:
    """The end of a long name: that is where names differ."""
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"


def _bars(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
    )
