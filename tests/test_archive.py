"""Archives are unpacked whole or not at all, never outside their folder, with links given content."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hdstbench.data.archive import ARCHIVES, unpack
from hdstbench.errors import DataError

FILES = {
    "outs/square_002um/big.h5": b"fine" * 30_000,
    "outs/square_002um/spatial/hires.png": b"picture" * 999,
    "outs/square_008um/counts.h5": os.urandom(70_000),
}
HIRES = "outs/square_002um/spatial/hires.png"
LINKS = ("outs/square_008um/spatial/hires.png", "outs/square_016um/spatial/hires.png")


def everything(_: str) -> bool:
    return True


def coarse(name: str) -> bool:
    return "square_002um" not in name


def make(path: Path, *, files: dict[str, bytes] | None = None, links: dict[str, str] | None = None) -> Path:
    """An archive of the kind that the path's name says, with the hard links of Space Ranger's."""
    contents = FILES if files is None else files
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in contents.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, content in contents.items():
            add(tar, name, content)
        for name, target in (links or {}).items():
            add(tar, name, kind=tarfile.LNKTYPE, linkname=target)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), fields.get("kind", tarfile.REGTYPE)  # type: ignore[assignment]
    info.linkname = str(fields.get("linkname", ""))
    tar.addfile(info, io.BytesIO(content))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(archive: Path, into: Path, wanted: Callable[[str], bool] = everything) -> str:
    """The one line of the refusal; nothing may have been left behind."""
    before = set(into.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack(archive, into, wanted)
    assert set(into.parent.rglob("*")) == before
    line = str(caught.value)
    assert "\n" not in line
    assert str(archive) in line
    return line


@pytest.mark.parametrize("ending", ARCHIVES)
def test_every_kind_gives_the_wanted_files_alone(ending: str, tmp_path: Path) -> None:
    archive = make(tmp_path / f"sample{ending}")

    paths = unpack(archive, tmp_path / "new" / "into", coarse)

    assert paths == [tmp_path / "new/into/outs/square_008um/counts.h5"]
    assert contents(tmp_path / "new") == {
        "into/outs/square_008um/counts.h5": FILES["outs/square_008um/counts.h5"]
    }


def test_the_content_tells_the_kind_not_the_name(tmp_path: Path) -> None:
    archive = make(tmp_path / "sample.tar")
    renamed = archive.rename(tmp_path / "sample.tar.gz")  # as browsers do that unpack on the way

    unpack(renamed, tmp_path / "into", everything)

    assert contents(tmp_path / "into") == FILES


def test_an_archive_of_nothing_wanted_gives_an_empty_folder(tmp_path: Path) -> None:
    paths = unpack(make(tmp_path / "a.tar.gz"), tmp_path / "into", lambda _: False)

    assert paths == []
    assert (tmp_path / "into").is_dir()


@pytest.mark.parametrize("wanted", [everything, coarse])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_hard_links_have_the_content_of_a_member_wanted_or_not(
    ending: str, wanted: Callable[[str], bool], tmp_path: Path
) -> None:
    archive = make(tmp_path / f"a{ending}", links=dict.fromkeys(LINKS, HIRES))

    unpack(archive, tmp_path / "into", wanted)

    expected = {name: content for name, content in FILES.items() if wanted(name)}
    assert contents(tmp_path / "into") == expected | dict.fromkeys(LINKS, FILES[HIRES])


def test_hard_links_to_what_is_not_in_the_archive_are_left_out(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar.gz", links={"outs/gone.png": "outs/nowhere.png"})

    unpack(archive, tmp_path / "into", everything)

    assert contents(tmp_path / "into") == FILES


def test_links_are_made_where_the_disk_knows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", no_links)

    unpack(make(tmp_path / "a.tar", links={LINKS[0]: HIRES}), tmp_path / "into", everything)

    assert (tmp_path / "into" / LINKS[0]).read_bytes() == FILES[HIRES]


@pytest.mark.parametrize(
    "target", ["../square_002um/spatial/hires.png", "./../square_002um/spatial/hires.png"]
)
def test_symbolic_links_that_stay_inside_become_files(target: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, HIRES.replace("/spatial", ""), kind=tarfile.SYMTYPE, linkname="spatial/hires.png")
        add(tar, "outs/other/hires.png", kind=tarfile.SYMTYPE, linkname=target)
        add(tar, HIRES, FILES[HIRES])

    unpack(tmp_path / "a.tar", tmp_path / "into", coarse)

    assert contents(tmp_path / "into") == {"outs/other/hires.png": FILES[HIRES]}
    assert not (tmp_path / "into/outs/other/hires.png").is_symlink()


def test_the_limit_counts_wanted_members_and_is_named(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar.gz")

    unpack(archive, tmp_path / "into", coarse, limit_bytes=70_000)

    with pytest.raises(DataError, match=r"unpacks to 197.0 kB or more, the limit is 196.9 kB"):
        unpack(archive, tmp_path / "other", everything, limit_bytes=196_900)
    assert not (tmp_path / "other").exists()


def test_a_small_disk_is_named_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=300_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    archive = make(tmp_path / "a.zip", files={"a.h5": bytes(40_000_000)})

    line = refused(archive, tmp_path / "into")

    assert f"unpacks to 40.0 MB or more, {tmp_path} has 300.0 MB left" in line


@pytest.mark.parametrize("ending", ARCHIVES)
@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9])
def test_a_cut_archive_is_one_line(ending: str, share: float, tmp_path: Path) -> None:
    archive = make(tmp_path / f"a{ending}", links=dict.fromkeys(LINKS, HIRES))
    with archive.open("r+b") as file:
        file.truncate(int(share * archive.stat().st_size))

    assert "fetch it again" in refused(archive, tmp_path / "into", coarse)


def test_a_tar_cut_between_members_is_not_whole(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar", files={"a.h5": bytes(512), "b.h5": b"b"})
    with archive.open("r+b") as file:
        file.truncate(1024)

    assert "it stops before its end" in refused(archive, tmp_path / "into")


def test_a_gzip_that_lacks_its_checksum_is_not_whole(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar.gz")
    with archive.open("r+b") as file:
        file.truncate(archive.stat().st_size - 4)

    assert "cut short" in refused(archive, tmp_path / "into")


def test_a_web_page_saved_as_an_archive_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "a.tar.gz"
    page.write_text("<html>Please sign in</html>" * 100)

    assert "is no archive" in refused(page, tmp_path / "into")


def test_a_member_that_holds_more_than_it_claims_is_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", files={"a.h5": bytes(5_000)})
    archive.write_bytes(
        archive.read_bytes().replace((5_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    )

    assert "damaged" in refused(archive, tmp_path / "into")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "mine.txt").write_text("mine")

    line = refused(make(tmp_path / "a.tar"), tmp_path / "into")

    assert "into is there already; wanted a new folder" in line
    assert contents(tmp_path / "into") == {"mine.txt": b"mine"}


def test_another_process_may_be_first(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar")

    def late(name: str) -> bool:
        if not (tmp_path / "into").exists():
            unpack(archive, tmp_path / "theirs", everything)
            (tmp_path / "theirs").rename(tmp_path / "into")
        return True

    paths = unpack(archive, tmp_path / "into", late)

    assert len(paths) == len(FILES)
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar", "into"}
