"""What answers of HTTP servers mean: sizes, states, ranges, refusals and lost connections."""

import re
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hdstbench.data.part import CHUNK
from hdstbench.errors import DataError, MissingError

if TYPE_CHECKING:
    from requests import Response

OK, PARTIAL, BAD_RANGE = 200, 206, 416
BUSY = (408, 425, 429)
ABSENT = (404, 410)
SERVER_ERROR = 500
RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Again(Exception):
    """Why an attempt failed that may go better later."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_s, self.unreachable = wait_s, unreachable


def total(answer: "Response") -> int:
    """Size of the whole file, 0 if the answer does not say."""
    if answer.status_code in (PARTIAL, BAD_RANGE):
        found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return int(found[2]) if found and found[2] != "*" else 0
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else 0


def goes_on(answer: "Response", size: int) -> bool:
    """Whether the body begins where a part of this size ends."""
    found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return answer.status_code == PARTIAL and found is not None and found[1] == str(size)


def tag(answer: "Response") -> str:
    """The state of the file, as If-Range takes it: a strong tag or a date."""
    strong = answer.headers.get("ETag", "")
    return strong if strong.startswith('"') else answer.headers.get("Last-Modified", "")


def body(answer: "Response") -> Iterator[bytes]:
    """Yield what comes, as it is stored on the server.

    Raises:
        Again: If the connection is lost.
    """
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - slow to import

    try:
        yield from answer.raw.stream(CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise lost(error) from error


def refused(url: str, answer: "Response") -> Exception:
    """Put a refusal in words."""
    code = f"HTTP {answer.status_code}"
    if answer.status_code in BUSY or answer.status_code >= SERVER_ERROR:
        wait = answer.headers.get("Retry-After", "")
        return Again(
            f"the server is busy or broken ({code})", wait_s=float(wait) if wait.isdecimal() else 0.0
        )
    if answer.status_code in ABSENT:
        return MissingError(f"{url} is not there ({code}); check the address, or give another with --mirror")
    return DataError(
        f"{url}: the server refuses it ({code}); check the address, or give another with --mirror"
    )


def lost(error: BaseException) -> Again:
    """Put the innermost cause of a lost connection in words."""
    causes = [error]
    while inner := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(inner)
    if any(isinstance(cause, TimeoutError) for cause in causes) or "timed out" in str(error):
        return Again("no answer in time")
    known = [c for c in causes if isinstance(c, OSError) and c.strerror]
    if not known:
        return Again("the connection was dropped")
    gone = isinstance(known[-1], socket.gaierror | ConnectionRefusedError)
    return Again(f"no connection ({known[-1].strerror})", unreachable=gone)
