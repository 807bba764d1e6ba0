"""Servers fail in every way they can, and files still come whole or not at all."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching import CONTENT, QUICK, fails, get, litter, make_dataset, notes, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from web import Fault, Web

from hdstbench.data.card import RemoteFile
from hdstbench.data.checksums import load_checksums
from hdstbench.data.download import Patience
from hdstbench.data.fetch import Progress, fetch
from hdstbench.data.part import part_path
from hdstbench.data.wanted import plan_fetch
from hdstbench.errors import DataError


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serve(tmp_path / "served") as server:
        yield server


def test_a_dropped_connection_goes_on_where_it_stopped(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567)}

    events = get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert [one.range for one in web.asked("GET")] == ["", "bytes=1234567-"]
    assert "the connection was dropped; trying again in 0 s (1 of 3)" in notes(events)


def test_progress_makes_up_for_failures(web: Web, tmp_path: Path) -> None:
    (web.folder / "a.bin").write_bytes(CONTENT[:1000])
    drops = iter(range(100, 1000, 100))
    web.faults = {"a.bin": Fault(drop_at=50)}

    def next_drop(progress: Progress) -> None:
        if "dropped" in progress.note:  # nine times, which is more often than a file may fail in a row
            web.struck.clear()
            web.faults = {"a.bin": Fault(drop_at=next(drops, -1))}

    dataset = make_dataset(tmp_path / "data", RemoteFile(path="a.bin"), base_url=web.url)
    fetch(plan_fetch(dataset), tmp_path / "data", next_drop, patience=QUICK)

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT[:1000]
    assert len(web.asked("GET")) == 11


def test_a_server_that_always_drops_is_given_up_and_the_next_fetch_goes_on(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567, times=99)}

    line = fails(web, tmp_path / "data")

    assert "the connection was dropped 4 times in a row; 1.2 MB came and are kept" in line
    assert part_path(tmp_path / "data/a.bin").stat().st_size == 1_234_567
    web.faults = {}
    events = get(web, tmp_path / "data")
    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert web.log[-1].range == "bytes=1234567-"
    assert ("checking", 1_234_567) in [(event.stage, event.done) for event in events]
    assert "goes on at 1.2 MB" in notes(events)
    assert not litter(tmp_path / "data")


def test_a_server_without_ranges_restarts_and_is_given_up_in_the_end(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567, ranges=False)}
    get(web, tmp_path / "one")
    web.faults, web.struck = {"a.bin": Fault(drop_at=1_234_567, times=99, ranges=False)}, {}

    line = fails(web, tmp_path / "two")

    assert (tmp_path / "one/a.bin").read_bytes() == CONTENT
    assert "4 times in a row" in line


def test_growing_again_after_a_restart_is_no_progress(web: Web, tmp_path: Path) -> None:
    places = iter([1_500_000, 2_000_000] * 9)

    def next_drop(progress: Progress) -> None:
        if "dropped" in progress.note:
            web.faults = {"a.bin": Fault(drop_at=next(places), times=99, ranges=False)}

    web.faults = {"a.bin": Fault(drop_at=2_000_000, times=99, ranges=False)}
    dataset = make_dataset(tmp_path / "data", RemoteFile(path="a.bin"), base_url=web.url)

    with pytest.raises(DataError, match="4 times in a row"):
        fetch(plan_fetch(dataset), tmp_path / "data", next_drop, patience=QUICK)


def test_a_range_that_was_not_asked_for_is_not_taken(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567, shift=7)}

    events = get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert "another range than was asked for" in notes(events)


def test_a_file_that_changed_between_two_fetches_is_fetched_anew(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567, times=99)}
    fails(web, tmp_path / "data")
    (web.folder / "a.bin").write_bytes(CONTENT[::-1])
    web.faults = {}

    get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT[::-1]
    assert web.log[-1].range == ""


def test_a_file_that_changed_unseen_is_caught_by_its_checksum(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567, times=99, tagged=False)}
    fails(web, tmp_path / "data")
    (web.folder / "a.bin").write_bytes(CONTENT[::-1])
    web.faults = {"a.bin": Fault(tagged=False)}
    file = RemoteFile(path="a.bin", md5=hashlib.md5(CONTENT[::-1]).hexdigest())

    line = fails(web, tmp_path / "data", file)
    get(web, tmp_path / "data", file)

    assert "its md5 is" in line
    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT[::-1]


def test_a_file_that_changes_while_it_comes_is_taken_in_its_new_state(web: Web, tmp_path: Path) -> None:
    def change(progress: Progress) -> None:
        if "dropped" in progress.note:
            (web.folder / "a.bin").write_bytes(CONTENT[::-1])

    web.faults = {"a.bin": Fault(drop_at=1_234_567)}
    dataset = make_dataset(tmp_path / "data", RemoteFile(path="a.bin"), base_url=web.url)

    fetch(plan_fetch(dataset), tmp_path / "data", change, patience=QUICK)

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT[::-1]


def test_a_file_that_changes_size_while_it_comes_is_an_error_that_names_both(
    web: Web, tmp_path: Path
) -> None:
    def change(progress: Progress) -> None:
        if progress.stage == "fetching":
            (web.folder / "a.bin").write_bytes(CONTENT[:1_000_000])

    dataset = make_dataset(tmp_path / "data", RemoteFile(path="a.bin"), base_url=web.url)
    with pytest.raises(DataError, match="says 1,000,000 bytes now, 2,500,000 before"):
        fetch(plan_fetch(dataset), tmp_path / "data", change, patience=QUICK)


@pytest.mark.parametrize("head", [0, 403, 405, 501])
def test_servers_that_refuse_head_are_asked_for_a_byte(head: int, web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(head=head)}

    events = get(web, tmp_path / "data", RemoteFile(path="a.bin", bytes=len(CONTENT)))

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert [one.range for one in web.asked("GET")] == ["bytes=0-0", ""]
    assert events[-1].total == len(CONTENT)


def test_a_file_of_unknown_size_comes_too(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(sized=False, ranges=False)}

    get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [Fault(claim=2_600_000), Fault(cut=2_400_000)])
def test_a_size_that_is_not_the_cards_stops_before_the_file(fault: Fault, web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": fault}

    line = fails(web, tmp_path / "data", RemoteFile(path="a.bin", bytes=len(CONTENT)))

    assert (
        f"the server says {fault.claim if fault.cut < 0 else fault.cut:,} bytes, the card 2,500,000" in line
    )
    assert not web.asked("GET")


def test_a_file_shorter_than_its_server_says_is_noticed(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(claim=2_600_000, ranges=False)}

    assert "4 times in a row" in fails(web, tmp_path / "data")


def test_a_file_shorter_than_the_card_says_is_noticed_where_the_server_says_nothing(
    web: Web, tmp_path: Path
) -> None:
    web.faults = {"a.bin": Fault(cut=2_000_000, sized=False, ranges=False)}

    line = fails(web, tmp_path / "data", RemoteFile(path="a.bin", bytes=len(CONTENT)))

    assert "the server sent 2,000,000 bytes of 2,500,000" in line


def test_a_file_longer_than_the_card_says_is_noticed_where_the_server_says_nothing(
    web: Web, tmp_path: Path
) -> None:
    web.faults = {"a.bin": Fault(sized=False, ranges=False)}

    line = fails(web, tmp_path / "data", RemoteFile(path="a.bin", bytes=2_000_000))

    assert "bytes of 2,000,000" in line
    assert part_path(tmp_path / "data/a.bin").stat().st_size < len(CONTENT)  # it may never end


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_busy_servers_are_waited_for(status: int, web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(status=status, times=3, head=status)}

    events = get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert f"(HTTP {status}); trying again" in notes(events)


def test_pauses_grow_up_to_a_limit_and_heed_the_server(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("hdstbench.data.download.time.sleep", pauses.append)
    patience = Patience(tries=9, pause_s=1.0, longest_s=10.0)

    web.faults = {"a.bin": Fault(status=503, times=5)}
    get(web, tmp_path / "data", RemoteFile(path="a.bin"), patience=patience)
    web.faults = {"b.bin": Fault(status=429, times=2, retry_after=7)}
    get(web, tmp_path / "data", RemoteFile(path="b.bin"), patience=patience)

    assert pauses == [1, 2, 4, 8, 10, 7, 7]


@pytest.mark.parametrize(("status", "words"), [(404, "is not there"), (403, "the server refuses it")])
def test_a_refusal_is_final_and_one_line(status: int, words: str, web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(status=status, head=status, times=99)}

    line = fails(web, tmp_path / "data")

    assert words in line
    assert f"HTTP {status}" in line
    assert len(web.asked("GET")) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/x", "no connection (Connection refused)"),
        ("http://no-such-host.invalid/x", "no connection ("),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line(url: str, words: str, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", RemoteFile(path="a.bin"), base_url=url)

    with pytest.raises(DataError) as caught:
        fetch(plan_fetch(dataset), tmp_path / "data", lambda _: None)

    assert str(caught.value).startswith(f"{url}/a.bin: {words}")


def test_a_server_that_falls_silent_is_left_and_asked_again(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(drop_at=1_234_567, stall=True)}

    events = get(web, tmp_path / "data", patience=Patience(tries=4, pause_s=0.0, silent_s=0.2))

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert "no answer in time" in notes(events)


def test_redirects_are_followed(web: Web, tmp_path: Path) -> None:
    (web.folder / "a.bin").rename(web.folder / "moved.dat")
    web.faults = {"a.bin": Fault(moved=f"{web.url}/moved.dat")}

    get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert load_checksums(tmp_path / "data")["a.bin"].url == f"{web.url}/a.bin"


def test_a_redirect_to_another_protocol_or_in_a_circle_is_refused(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(moved="ftp://127.0.0.1/a.bin")}
    assert "check the address" in fails(web, tmp_path / "data")

    web.faults = {"a.bin": Fault(moved=f"{web.url}/a.bin")}
    assert "redirects" in fails(web, tmp_path / "data")


def test_a_web_page_in_place_of_a_file_is_refused(web: Web, tmp_path: Path) -> None:
    web.faults = {"a.bin": Fault(kind="text/html; charset=utf-8")}

    assert "sent a web page instead of the file" in fails(web, tmp_path / "data")
    assert not litter(tmp_path / "data")


def test_an_empty_file_is_refused(web: Web, tmp_path: Path) -> None:
    (web.folder / "a.bin").write_bytes(b"")

    assert "the server sent an empty file" in fails(web, tmp_path / "data")
    assert not litter(tmp_path / "data")


@given(
    drop=st.integers(0, 299_999),
    times=st.integers(0, 3),
    ranges=st.booleans(),
    tagged=st.booleans(),
    left=st.integers(0, 300_000),
)
@settings(max_examples=40, deadline=None)
def test_whatever_fails_the_content_is_right(
    drop: int, times: int, ranges: bool, tagged: bool, left: int
) -> None:
    with tempfile.TemporaryDirectory() as base, Web(Path(base)) as web:
        content = CONTENT[:300_000]
        (web.folder / "a.bin").write_bytes(content)
        web.faults = {"a.bin": Fault(drop_at=drop, times=times, ranges=ranges, tagged=tagged)}
        root = Path(base, "data")
        root.mkdir()
        part_path(root / "a.bin").write_bytes(content[:left])

        get(web, root)

        assert (root / "a.bin").read_bytes() == content
        assert not litter(root)
