"""Hostile archives write nothing outside their folder, and are refused in one line that says why."""

import gzip
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_archive import add, contents, everything, make, refused

from hdstbench.data.archive import unpack
from hdstbench.errors import DataError


def tar_with(path: Path, name: str, **fields: object) -> Path:
    with tarfile.open(path, "w") as tar:
        add(tar, "outs/good.h5", b"good")
        add(tar, name, **fields)
    return path


def zip_link(path: Path, name: str, target: str) -> Path:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("outs/real.png", b"real")
        packed.writestr(info, target)
    return path


def test_symbolic_links_in_zips_become_files_or_are_refused(tmp_path: Path) -> None:
    inside = zip_link(tmp_path / "in.zip", "outs/link.png", "real.png")
    outside = zip_link(tmp_path / "out.zip", "outs/link.png", "/etc/passwd")

    unpack(inside, tmp_path / "into", everything)

    assert contents(tmp_path / "into") == {"outs/real.png": b"real", "outs/link.png": b"real"}
    assert "'outs/link.png', a link that leads out of it, to '/etc/passwd'" in refused(
        outside, tmp_path / "x"
    )


@pytest.mark.parametrize(
    "name", ["/outs/a.h5", "../a.h5", "outs/../../a.h5", "outs/..", "outs\\a.h5", "..\\a.h5", "C:\\a.h5"]
)
@pytest.mark.parametrize("wanted", [everything, lambda name: name == "outs/good.h5"])
def test_names_that_lead_out_are_refused_by_name(
    name: str, wanted: Callable[[str], bool], tmp_path: Path
) -> None:
    archive = tar_with(tmp_path / "a.tar", name)
    make(tmp_path / "a.zip", files={"outs/good.h5": b"good", name: b"evil"})

    line = refused(archive, tmp_path / "new" / "into", wanted)

    assert repr(name) in line
    assert repr(name) in refused(tmp_path / "a.zip", tmp_path / "new" / "into", wanted)


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("plain")
        info.pax_headers = {"path": "outs/a\0b.h5"}
        tar.addfile(info)
    packed = make(tmp_path / "a.zip", files={"outs/a?b.h5": b"x"})
    packed.write_bytes(packed.read_bytes().replace(b"a?b", b"a\0b"))

    lines = [refused(archive, tmp_path / "into"), refused(packed, tmp_path / "into")]

    assert all(repr("outs/a\0b.h5") in line for line in lines)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "../.."])
def test_links_that_lead_out_are_refused_by_name(kind: bytes, target: str, tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tar", "outs/link.png", kind=kind, linkname=target)

    assert "'outs/link.png', a link that leads out of it" in refused(archive, tmp_path / "into")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_and_pipes_are_refused_by_name(kind: bytes, tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tar", "outs/odd.h5", kind=kind)

    assert "'outs/odd.h5', which is a device or pipe" in refused(archive, tmp_path / "into")


def test_what_is_not_wanted_may_be_a_link_out(tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tar", "outs/raw", kind=tarfile.SYMTYPE, linkname="/data/raw")

    paths = unpack(archive, tmp_path / "into", lambda name: name.endswith(".h5"))

    assert [path.name for path in paths] == ["good.h5"]


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))

    assert "a header claims 1099511627776 bytes" in refused(archive, tmp_path / "into")


def test_a_member_of_negative_size_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.h5")
        info.pax_headers = {"size": "-512"}
        tar.addfile(info)

    assert "a member of -512 bytes" in refused(archive, tmp_path / "into")


NAMES = st.text(st.sampled_from("ab./\\\0~ é\n"), min_size=1, max_size=12) | st.lists(
    st.sampled_from(["..", ".", "", "a", "/", "~"]), min_size=1, max_size=5
).map("/".join)


@given(
    names=st.lists(NAMES, min_size=1, max_size=4),
    targets=st.lists(NAMES, min_size=4, max_size=4),
    kinds=st.lists(
        st.sampled_from([tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE]), min_size=4, max_size=4
    ),
)
@settings(max_examples=300, deadline=None)
def test_no_name_or_link_of_a_tar_writes_outside(
    names: list[str], targets: list[str], kinds: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as base:
        archive, into = Path(base, "a.tar"), Path(base, "x/y/into")
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, target, kind in zip(names, targets, kinds, strict=False):
                add(tar, name, b"evil" if kind == tarfile.REGTYPE else b"", kind=kind, linkname=target)

        _try(archive, into)

        _only_inside(Path(base), archive, into)


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
@settings(max_examples=200, deadline=None)
def test_no_name_of_a_zip_writes_outside(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as base:
        archive, into = Path(base, "a.zip"), Path(base, "x/y/into")
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                info = zipfile.ZipInfo("plain")
                info.filename = name
                packed.writestr(info, b"evil")

        _try(archive, into)

        _only_inside(Path(base), archive, into)


@given(data=st.data(), ending=st.sampled_from([".tar", ".tar.gz", ".zip"]))
@settings(max_examples=300, deadline=None)
def test_damage_is_one_line_and_leaves_nothing(data: st.DataObject, ending: str) -> None:
    with tempfile.TemporaryDirectory() as base:
        archive, into = (
            make(Path(base, f"a{ending}"), files={"o/a.h5": b"some" * 50, "o/b.h5": b"more"}),
            Path(base, "into"),
        )
        content = bytearray(archive.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        archive.write_bytes(content)

        _try(archive, into)

        _only_inside(Path(base), archive, into)


def _try(archive: Path, into: Path) -> None:
    """Unpack or refuse; anything but a DataError goes up."""
    try:
        unpack(archive, into, everything)
    except DataError:
        assert not into.exists()


def _only_inside(base: Path, archive: Path, into: Path) -> None:
    for path in base.rglob("*"):
        assert path == archive or path in into.parents or into in (path, *path.parents)
        assert not path.is_symlink()
