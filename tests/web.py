"""A web server for tests: it serves a folder, with ranges, a log, and faults on request."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

CHUNK = 2**16
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with a file. Without any, it is sent as it is.

    Attributes:
        status: Answered to GET instead of the file.
        retry_after: Seconds, sent with that status.
        drop_at: Bodies that hold this byte of the file break off before it.
        stall: The connection then stays open, and nothing comes.
        times: How many answers are at fault by `status` or `drop_at`; the later ones are right.
        cut: The file ends here, and everything that is said agrees.
        claim: A size that is said, but is not true.
        head: Status of HEAD requests; 0 drops the connection.
        ranges: Whether ranges are known.
        shift: Ranges begin this much later than asked.
        sized: Whether the size is said at all.
        tagged: Whether the state is said, as ETag.
        moved: Where the file is instead.
        kind: Its Content-Type.
    """

    status: int = 0
    retry_after: int = 0
    drop_at: int = -1
    stall: bool = False
    times: int = 1
    cut: int = -1
    claim: int = -1
    head: int = 200
    ranges: bool = True
    shift: int = 0
    sized: bool = True
    tagged: bool = True
    moved: str = ""
    kind: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came, and the status it got."""

    method: str
    path: str
    range: str
    status: int


@dataclass
class Web:
    """A server; `with Web(folder) as web:` runs it at `web.url`.

    Faults are found by what a path ends with, "" being all; they and the files may change while it runs.
    """

    folder: Path
    faults: dict[str, Fault] = field(default_factory=dict)
    log: list[Asked] = field(default_factory=list)
    struck: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fault(self, path: str) -> Fault:
        """What goes wrong with a file."""
        return next((fault for end, fault in self.faults.items() if path.endswith(end)), Fault())

    def strikes(self, path: str) -> bool:
        """Whether this answer is at fault; counts it."""
        self.struck[path] = self.struck.get(path, 0) + 1
        return self.struck[path] <= self.fault(path).times

    def asked(self, method: str, end: str = "") -> list[Asked]:
        """Requests of a method for paths with that end."""
        return [one for one in self.log if one.method == method and one.path.endswith(end)]


class _Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # clients may leave
            super().handle()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        self.path = unquote(urlsplit(self.path).path).lstrip("/")
        fault, file = self.web.fault(self.path), self.web.folder / self.path
        if self.command == "HEAD" and fault.head != 200:
            self._say(fault.head)
        elif self.command == "GET" and fault.status and self.web.strikes(self.path):
            self._say(fault.status, {"Retry-After": str(fault.retry_after)} if fault.retry_after else {})
        elif fault.moved:
            self._say(302, {"Location": fault.moved})
        elif not file.is_file():
            self._say(404)
        else:
            self._send(file, fault)

    def _say(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Answer without a body; status 0 drops the connection."""
        self._log(status)
        if not status:
            self._drop()
            return
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, file: Path, fault: Fault) -> None:
        content = file.read_bytes()[: fault.cut if fault.cut >= 0 else None]
        tag, size = f'"{file.stat().st_mtime_ns}"', len(content)
        said = fault.claim if fault.claim >= 0 else size
        asked = RANGE.fullmatch(self.headers.get("Range", "")) if fault.ranges else None
        if self.headers.get("If-Range", tag) != tag:
            asked = None
        if asked and int(asked[1]) >= size:
            self._say(416, {"Content-Range": f"bytes */{said}"})
            return
        start = min(int(asked[1]) + fault.shift, size) if asked else 0
        end = min(int(asked[2]) + 1, size) if asked and asked[2] else size
        headers = {"Content-Type": fault.kind}
        headers |= {"ETag": tag} if fault.tagged else {}
        headers |= {"Content-Range": f"bytes {start}-{end - 1}/{said}"} if asked else {}
        length = end - start if asked else said
        headers |= {"Content-Length": str(length)} if fault.sized else {"Connection": "close"}
        self._log(206 if asked else 200)
        self.send_response(206 if asked else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._pour(content, start, end, fault)
            self.close_connection = self.close_connection or not fault.sized or length != end - start

    def _pour(self, content: bytes, start: int, end: int, fault: Fault) -> None:
        strikes = start <= fault.drop_at < end and self.web.strikes(self.path)
        stop = fault.drop_at if strikes else end
        for place in range(start, stop, CHUNK):
            self.wfile.write(content[place : min(place + CHUNK, stop)])
        if strikes:
            if fault.stall:
                self.web.over.wait()
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _log(self, status: int) -> None:
        self.web.log.append(Asked(self.command, self.path, self.headers.get("Range", ""), status))
