"""Files of data sets are planned, fetched once, verified and recorded."""

import errno
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import CONTENT, QUICK, fails, get, litter, make_dataset, serve
from web import Web

from hdstbench.data.card import RemoteFile, SampleCard
from hdstbench.data.checksums import CHECKSUMS, Known, load_checksums, record
from hdstbench.data.fetch import Progress, fetch, verify
from hdstbench.data.part import Part, open_part, part_path
from hdstbench.data.wanted import plan_fetch
from hdstbench.errors import DataError, MissingError


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serve(tmp_path / "served") as server:
        yield server


def test_a_plan_lists_files_with_what_is_known_of_them(tmp_path: Path) -> None:
    files = [
        RemoteFile(path="a/whole.h5", bytes=4),
        RemoteFile(path="a/part.h5", bytes=9, about=8),
        RemoteFile(path="b/about.btf", about=7),
        RemoteFile(path="b/what else?.csv"),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "a/whole.h5").write_bytes(b"1234")
    part_path(tmp_path / "a/part.h5").write_bytes(b"12345")

    wanted = plan_fetch(make_dataset(tmp_path, *files, base_url="https://x.example/y/"))

    assert [(one.state, one.have, one.size, one.exact) for one in wanted] == [
        ("there", 4, 4, True),
        ("partial", 5, 9, True),
        ("missing", 0, 7, False),
        ("missing", 0, 0, False),
    ]
    assert wanted[0].target == tmp_path / "a/whole.h5"
    assert wanted[3].url == "https://x.example/y/b/what%20else%3F.csv"


@pytest.mark.parametrize(
    ("only", "paths"),
    [
        ((), ["run/one.h5", "run/two.btf", "S1/three.h5"]),
        (("S1",), ["run/two.btf"]),
        (("s1",), ["S1/three.h5"]),
        ((".H5", "two"), ["run/one.h5", "run/two.btf", "S1/three.h5"]),
        ((" S2 ", "one"), ["run/one.h5", "S1/three.h5"]),
    ],
)
def test_only_takes_samples_by_id_and_files_by_parts_of_names(
    only: tuple[str, ...], paths: list[str], tmp_path: Path
) -> None:
    files = [RemoteFile(path=path) for path in ("run/one.h5", "run/two.btf", "S1/three.h5")]

    wanted = plan_fetch(make_dataset(tmp_path, *files), only=only)

    assert [one.file.path for one in wanted] == paths


@pytest.mark.parametrize(
    ("word", "close"), [("S9", "S1"), ("bined", "binned"), ("", "S0, S1"), ("x_image.bft", "x_image.btf")]
)
def test_an_unknown_sample_or_file_is_named_with_close_ones(word: str, close: str, tmp_path: Path) -> None:
    files = RemoteFile(path="x_binned_outputs.tar.gz"), RemoteFile(path="x_image.btf")

    with pytest.raises(MissingError, match=f"is called {word!r}; did you mean .*{close}"):
        plan_fetch(make_dataset(tmp_path, *files), only=(word,))


def test_a_sample_that_lists_no_files_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, RemoteFile(path="a"))
    bare = SampleCard(id="S1", patient="p1", path="S1")
    dataset = replace(dataset, card=replace(dataset.card, samples=(*dataset.card.samples, bare)))

    with pytest.raises(MissingError, match="lists no files of its sample S1; get them from https://toy"):
        plan_fetch(dataset, only=("S0", "S1"))


def test_a_file_of_two_samples_is_fetched_once(tmp_path: Path) -> None:
    wanted = plan_fetch(make_dataset(tmp_path, RemoteFile(path="a"), RemoteFile(path="a")))

    assert len(wanted) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/",
        "",
        ".",
        "a\\b",
        "a\0b",
        CHECKSUMS,
        "a.part",
        "a.wrong",
    ],
)
def test_paths_that_lead_out_or_collide_are_refused_by_name(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        plan_fetch(make_dataset(tmp_path, RemoteFile(path=path)))

    assert f"the card of toy lists the file {path!r}" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://x/y",
        "x.example",
        "file:///etc",
        "http://",
        "http://[::1",
        "http://u:pw@x",
        "http://x?a=1",
        "http://x:y",
    ],
)
@pytest.mark.parametrize("mirror", [True, False])
def test_an_address_that_cannot_be_fetched_from_is_named(address: str, mirror: bool, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, RemoteFile(path="a"), base_url="http://x" if mirror else address)

    with pytest.raises(DataError) as caught:
        plan_fetch(dataset, mirror=address if mirror else "")

    assert f"{'--mirror' if mirror else 'the base_url of toy'} is {address!r}; wanted http" in str(
        caught.value
    )


def test_a_card_without_an_address_asks_for_a_mirror(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, RemoteFile(path="a"), base_url="")

    assert plan_fetch(dataset, mirror="https://m.example")[0].url == "https://m.example/a"
    with pytest.raises(DataError, match="no base_url; give their address with --mirror"):
        plan_fetch(dataset)


def test_a_card_without_files_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(
        MissingError, match=r"lists no files to fetch; get them from https://toy.example and put"
    ):
        plan_fetch(make_dataset(tmp_path))


def test_a_file_that_is_there_with_another_size_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "folder").mkdir()

    with pytest.raises(DataError, match=r"a.bin holds 5 bytes, wanted 9; remove it"):
        plan_fetch(make_dataset(tmp_path, RemoteFile(path="a.bin", bytes=9)))
    with pytest.raises(DataError, match=r"folder is no file; remove it"):
        plan_fetch(make_dataset(tmp_path, RemoteFile(path="folder")))

    assert (tmp_path / "a.bin").read_bytes() == b"12345"


def test_files_come_whole_and_their_checksums_are_recorded(web: Web, tmp_path: Path) -> None:
    root = tmp_path / "data"

    events = get(web, root, RemoteFile(path="a.bin", bytes=len(CONTENT)), RemoteFile(path="b.bin", about=9))

    assert (root / "a.bin").read_bytes() == (root / "b.bin").read_bytes() == CONTENT
    assert not litter(root)
    known = load_checksums(root)
    assert set(known) == {"a.bin", "b.bin"}
    assert known["a.bin"].size == len(CONTENT)
    assert known["a.bin"].sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert known["a.bin"].url == f"{web.url}/a.bin"
    last = events[-1]
    assert (last.path, last.stage, last.done, last.note) == (
        "b.bin",
        "whole",
        len(CONTENT),
        "sha256 recorded",
    )


def test_what_is_there_is_not_asked_for(web: Web, tmp_path: Path) -> None:
    get(web, tmp_path / "data")
    web.log.clear()

    get(web, tmp_path / "data")

    assert not web.log


def test_sizes_are_asked_before_anything_is_fetched(web: Web, tmp_path: Path) -> None:
    (web.folder / "b.bin").unlink()

    with pytest.raises(MissingError, match=r"/b.bin is not there \(HTTP 404\)"):
        get(web, tmp_path / "data", RemoteFile(path="a.bin"), RemoteFile(path="b.bin"))

    assert not web.asked("GET", "a.bin")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_kept_aside_and_the_next_fetch_mends_it(
    kind: str, web: Web, tmp_path: Path
) -> None:
    digest = hashlib.new(kind, CONTENT).hexdigest()
    file = RemoteFile(path="a.bin", **{kind: digest.upper()})  # type: ignore[arg-type]
    (web.folder / "a.bin").write_bytes(CONTENT[::-1])

    line = fails(web, tmp_path / "data", file)

    assert f"its {kind} is" in line
    assert f"published is {digest.upper()}; it is kept as {tmp_path / 'data/a.bin.wrong'}" in line
    assert litter(tmp_path / "data") == {"a.bin.wrong"}
    (web.folder / "a.bin").write_bytes(CONTENT)
    events = get(web, tmp_path / "data", file)
    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert events[-1].note == "as published"
    assert not litter(tmp_path / "data")


def test_a_file_fetched_again_has_to_be_as_recorded(web: Web, tmp_path: Path) -> None:
    get(web, tmp_path / "data")
    (tmp_path / "data/a.bin").unlink()
    again = get(web, tmp_path / "data")
    (tmp_path / "data/a.bin").unlink()
    (web.folder / "a.bin").write_bytes(CONTENT[::-1])

    line = fails(web, tmp_path / "data")

    assert again[-1].note == "as recorded"
    assert f"{hashlib.sha256(CONTENT).hexdigest()} was recorded when it was fetched on 20" in line
    assert "delete its entry in checksums.json" in line


def test_verify_names_every_file_that_changed_and_records_new_ones(web: Web, tmp_path: Path) -> None:
    root, files = tmp_path / "data", (RemoteFile(path="a.bin"), RemoteFile(path="b.bin"))
    root.mkdir()
    (root / "a.bin").write_bytes(CONTENT)  # brought by hand
    dataset = make_dataset(root, *files, base_url=web.url)
    events: list[Progress] = []

    verify(plan_fetch(dataset), root, events.append)
    (root / "a.bin").write_bytes(CONTENT[::-1])

    assert events[-1].note == "sha256 recorded"
    with pytest.raises(DataError, match=r"a.bin: its sha256 is .* was recorded"):
        verify(plan_fetch(dataset), root, events.append)
    assert not web.log


def test_two_fetches_of_one_file_at_once_are_told_apart(web: Web, tmp_path: Path) -> None:
    file = RemoteFile(path="a.bin")

    with open_part(tmp_path / "data/a.bin", file), pytest.raises(DataError) as caught:
        get(web, tmp_path / "data", file)

    assert "a.bin.part is being fetched by another process" in str(caught.value)


@pytest.mark.parametrize("anew", [False, True])
def test_a_part_that_was_renamed_before_it_was_locked_is_not_written_to(
    anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(*_: object) -> None:  # what another process does just then
        part_path(target).rename(tmp_path / "theirs.bin")
        if anew:
            part_path(target).touch()

    target = tmp_path / "a.bin"
    monkeypatch.setattr(fcntl, "flock", finish)

    with pytest.raises(DataError, match="by another process"), open_part(target, RemoteFile(path="a.bin")):
        pass


def test_a_disk_without_locks_is_fetched_to_all_the_same(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT


def test_a_file_that_another_process_finished_meanwhile_is_taken(web: Web, tmp_path: Path) -> None:
    def finish(progress: Progress) -> None:
        if progress.stage == "asking":
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"theirs")

    target = tmp_path / "data/a.bin"
    dataset = make_dataset(target.parent, RemoteFile(path="a.bin"), base_url=web.url)

    fetch(plan_fetch(dataset), target.parent, finish, patience=QUICK)

    assert target.read_bytes() == b"theirs"
    assert not litter(target.parent)


def test_a_small_disk_stops_the_fetch_before_it_begins(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=270_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)

    with pytest.raises(DataError, match=r"has 270.0 MB free, the files to come need 5.0 MB and 268.4 MB"):
        get(web, tmp_path / "data", RemoteFile(path="a.bin"), RemoteFile(path="b.bin"))

    assert not web.asked("GET")


def test_what_is_there_of_a_file_needs_no_room(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_path(tmp_path / "data/a.bin")
    part.parent.mkdir()
    part.write_bytes(CONTENT[:2_000_000])
    free = shutil.disk_usage(tmp_path)._replace(free=269_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)

    get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT


def test_a_disk_that_fills_up_is_one_line(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Part, "write", full)

    with pytest.raises(DataError, match=r"cannot write .*a.bin \(No space left on device\)"):
        get(web, tmp_path / "data")


@pytest.mark.parametrize("there", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_is_whole_or_too_long_is_dealt_with(there: int, web: Web, tmp_path: Path) -> None:
    part = part_path(tmp_path / "data/a.bin")
    part.parent.mkdir()
    part.write_bytes((CONTENT + b"!")[:there])

    get(web, tmp_path / "data")

    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    assert len(web.asked("GET")) == there - len(CONTENT)


def test_records_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    known = Known(size=1, sha256="0", url="u", fetched="now")
    names = [f"f{number}" for number in range(60)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: record(tmp_path, name, known), names))

    assert load_checksums(tmp_path) == dict.fromkeys(names, known)


@pytest.mark.parametrize("text", ["{", "[]", '{"a.bin": 1}', '{"a.bin": {"size": 1}}', "\xff"])
def test_a_damaged_record_is_one_line(text: str, web: Web, tmp_path: Path) -> None:
    (tmp_path / CHECKSUMS).write_text(text, encoding="latin-1")

    with pytest.raises(DataError, match=r"checksums.json is damaged .*delete it"):
        get(web, tmp_path)


def test_records_are_readable(web: Web, tmp_path: Path) -> None:
    get(web, tmp_path / "data")

    table = json.loads((tmp_path / "data" / CHECKSUMS).read_text())

    assert set(table["a.bin"]) == {"size", "sha256", "url", "fetched"}
