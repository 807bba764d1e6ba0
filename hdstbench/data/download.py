"""Get one file over HTTP: its size first, then what is missing of it, again until it is whole."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rich.filesize import decimal

from hdstbench import __version__
from hdstbench.data.answers import BAD_RANGE, OK, Again, body, goes_on, lost, refused, tag, total
from hdstbench.data.part import Part, Watch
from hdstbench.errors import DataError, HdstError

if TYPE_CHECKING:
    from requests import Response

T = TypeVar("T")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to give up.

    Attributes:
        tries: In a row that brought nothing new.
        pause_s: Before the second of them; it doubles.
        longest_s: The longest pause.
        connect_s: How long a server may take to accept a connection.
        silent_s: How long it may send nothing.
    """

    tries: int = 8
    pause_s: float = 1.0
    longest_s: float = 60.0
    connect_s: float = 20.0
    silent_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server: its size, 0 if unknown, and a tag of its state, which may be empty."""

    size: int
    tag: str


class Client:
    """Connections to servers, kept between files."""

    def __init__(self, patience: Patience) -> None:
        import requests  # noqa: PLC0415 - slow to import

        self.patience = patience
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"hdstbench/{__version__}"

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def ask(self, url: str, tell: Tell) -> Remote:
        """Learn a file's size and state without its content.

        Args:
            url: Its address.
            tell: Called with a line whenever an attempt has failed.

        Raises:
            HdstError: If it is not there or the server cannot be reached.
        """
        try:
            remote = self._look("HEAD", url, {})
        except (Again, HdstError):
            remote = Remote(0, "")
        if remote.size:
            return remote
        first_byte = {"Range": "bytes=0-0"}  # some servers refuse HEAD, or do not say the size
        return self._insist(url, lambda: self._look("GET", url, first_byte), None, tell)

    def get(self, url: str, remote: Remote, part: Part, *, watch: Watch, tell: Tell) -> None:
        """Get what is missing of a file.

        Args:
            url: Its address.
            remote: What the server said of it.
            part: What is there of it; grows.
            watch: Called with its size whenever it has grown.
            tell: Called with a line whenever an attempt has failed.

        Raises:
            HdstError: If the server refuses, says another size than before, or fails too often. What
                came is kept.
        """
        if not remote.size or part.size < remote.size:
            self._insist(url, lambda: self._fill(url, remote, part, watch), part, tell)
        if not part.size:
            msg = f"{url}: the server sent an empty file; give another address with --mirror"
            raise DataError(msg)

    def _insist(self, url: str, attempt: Callable[[], T], part: Part | None, tell: Tell) -> T:
        """Try again with growing pauses; only what is more than ever before counts as progress.

        Without a part it is a first look, for which a server has to be reachable at once.
        """
        failures, most, p = 0, part.size if part else 0, self.patience
        while True:
            try:
                return attempt()
            except Again as again:
                size = part.size if part else 0
                failures = 1 if size > most else failures + 1
                most = max(most, size)
                if failures >= p.tries or (again.unreachable and part is None):
                    raise DataError(_given_up(url, again, failures, size)) from again
                pause = min(max(p.pause_s * 2 ** (failures - 1), again.wait_s), p.longest_s)
                tell(f"{again}; trying again in {pause:g} s ({failures} of {p.tries - 1})")
                time.sleep(pause)

    def _look(self, method: str, url: str, headers: dict[str, str]) -> Remote:
        with self._open(method, url, headers) as answer:
            return Remote(total(answer), tag(answer))

    def _fill(self, url: str, remote: Remote, part: Part, watch: Watch) -> None:
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        if part.size and remote.tag:
            headers["If-Range"] = remote.tag
        with self._open("GET", url, headers) as answer:
            _check(url, answer, remote.size, total(answer))
            if part.size and not goes_on(answer, part.size):
                part.restart()
                if answer.status_code != OK:
                    msg = "the server sent another range than was asked for"
                    raise Again(msg)
            for piece in body(answer):
                part.write(piece)
                watch(part.size)
                if remote.size and part.size > remote.size:
                    break
        if remote.size and part.size != remote.size:
            msg = f"the server sent {part.size:,} bytes of {remote.size:,}"
            raise Again(msg)

    def _open(self, method: str, url: str, headers: dict[str, str]) -> "Response":
        import requests  # noqa: PLC0415 - slow to import

        asked = {"Accept-Encoding": "identity", **headers}  # the bytes as they are stored
        limits = (self.patience.connect_s, self.patience.silent_s)
        try:
            answer = self._session.request(
                method, url, headers=asked, stream=True, allow_redirects=True, timeout=limits
            )
        except requests.exceptions.SSLError as error:
            msg = f"{url}: no safe connection ({error}); check the address and the clock"
            raise DataError(msg) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise lost(error) from error
        except (requests.RequestException, ValueError) as error:
            msg = f"{url}: {error}; check the address"
            raise DataError(msg) from error
        if answer.ok or answer.status_code == BAD_RANGE:
            return answer
        answer.close()
        raise refused(url, answer)


def _check(url: str, answer: "Response", before: int, now: int) -> None:
    if before and now and now != before:
        msg = f"{url}: the server says {now:,} bytes now, {before:,} before; try again later"
        raise DataError(msg)
    if answer.headers.get("Content-Type", "").startswith("text/html") and not url.endswith((".html", ".htm")):
        msg = (
            f"{url}: the server sent a web page instead of the file; open the address in a browser to see why"
        )
        raise DataError(msg)


def _given_up(url: str, again: Again, failures: int, size: int) -> str:
    times = f" {failures} times in a row" if failures > 1 else ""
    hint = "check the address and the network, or give another with --mirror"
    if size:
        hint = f"{decimal(size)} came and are kept, the same command goes on from there"
    return f"{url}: {again}{times}; {hint}"
