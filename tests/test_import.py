"""What `hdstbench data import` writes and refuses, whatever the source is."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import type_command
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from spots import NOTHING, Array, bright, make, slides, under_spots, write_h5ad, write_task

from hdstbench.cli import import_job
from hdstbench.data.adata import read
from hdstbench.data.card import load_dataset
from hdstbench.data.cardfile import reference, toml
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError, HdstError
from hdstbench.protocol.splits import load_split


def test_an_image_of_another_slide_is_refused_when_it_is_prepared(tmp_path: Path) -> None:
    made = make("S", Array(side=6))
    del made.adata.uns["spatial"]  # nothing states the image's size
    path = write_h5ad(tmp_path, made)
    Image.new("RGB", (300, 200)).save(path.with_suffix(".png"))
    card = load_dataset(str(import_job.execute(str(path), str(tmp_path / "out"), NOTHING)))

    with pytest.raises(DataError, match=r"\d+% of the units lie outside it"):
        prepare_slide(card, card.card.samples[0], card.card.resolution("100um"))


def test_one_file_becomes_a_data_set_without_a_split(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path, make("S"), stated=False)
    given = {"image": str(path.with_suffix(".png")), "mpp": 2.02, "patient": "P 7"}

    dataset = load_dataset(str(import_job.execute(str(path), str(tmp_path / "out"), given)))

    card, sample = dataset.card, dataset.card.samples[0]
    assert (sample.id, sample.patient, sample.path, sample.image) == ("S", "P 7", "../S.h5ad", "../S.png")
    assert (card.name, card.reader, card.resolutions, card.native_um) == ("out", "anndata", ("55um",), 55)
    own, _ = read(dataset, sample, card.resolution("55um"))
    assert own.mpp == pytest.approx(2.02, rel=1e-6)
    with pytest.raises(HdstError, match="a benchmark needs several patients"):
        load_split(dataset, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "S.h5ad does not say how many um a pixel has; .* --mpp"),
        ({"mpp": 0.0}, "um a pixel of .*S.h5ad is 0.0, wanted um a pixel above 0"),
        ({"mpp": -1.0}, "um a pixel of .*S.h5ad is -1.0, wanted um a pixel above 0"),
        ({"mpp": 2.0, "image": "none.tif"}, "none.tif is not there; give the full-resolution H&E"),
    ],
)
def test_wrong_options_are_named_and_leave_nothing(
    tmp_path: Path, given: dict[str, object], message: str
) -> None:
    path = write_h5ad(tmp_path, make("S"), stated=False)

    with pytest.raises(HdstError, match=message):
        import_job.execute(str(path), str(tmp_path / "out"), NOTHING | given)

    assert not list(tmp_path.glob("out*"))


def test_options_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path, make("S"))

    with pytest.raises(DataError, match=r"\['mpp'\] says 2.0000 um a pixel, you say 0.5; mend"):
        import_job.execute(str(path), str(tmp_path / "out"), NOTHING | {"mpp": 0.5})


def test_a_file_without_an_image_beside_it_asks_for_one(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path, make("S"))
    path.with_suffix(".png").unlink()

    with pytest.raises(HdstError, match=r"no image S\.tif, .* lies beside .* give .* --image"):
        import_job.execute(str(path), str(tmp_path / "out"), NOTHING)


def test_commands_say_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path, make("S"), stated=False)
    words = ("data", "import", str(path), "-o", "out")

    done = type_command(*words, cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "--mpp" in done.stderr


def test_a_slide_keeps_its_name_in_a_card_that_joins_others(tmp_path: Path) -> None:
    """What a user does with single files: one card for both, written by hand."""
    paths = [write_h5ad(tmp_path / name, make(name)) for name in ("A", "B")]
    cards = [import_job.execute(str(p), str(tmp_path / f"set-{p.stem}"), NOTHING) for p in paths]
    joined = tmp_path / "both"
    joined.mkdir()
    text = cards[0].read_text() + cards[1].read_text()[cards[1].read_text().index("[[samples]]") :]
    (joined / "dataset.toml").write_text(text)

    dataset = load_dataset(str(joined))

    assert [sample.id for sample in dataset.card.samples] == ["A", "B"]
    for sample in dataset.card.samples:
        found, _ = read(dataset, replace(sample), dataset.card.resolution("55um"))
        np.testing.assert_array_equal(under_spots(found), bright(found))


def test_a_file_name_that_no_card_can_hold_is_refused(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "in", make("A"))
    odd = path.with_name("bad\udcff.h5ad")
    path.rename(odd)
    path.with_suffix(".png").rename(odd.with_suffix(".png"))

    with pytest.raises(DataError, match="has a name that a card cannot hold; rename it"):
        import_job.execute(str(odd), str(tmp_path / "set"), NOTHING)

    assert not (tmp_path / "set").exists()


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200)
def test_any_text_can_stand_in_a_card(text: str) -> None:
    assert tomllib.loads(f"x = {toml(text)}\ny = {toml([text, text])}") == {"x": text, "y": [text, text]}


@given(st.floats(0, 1e9, allow_subnormal=False))
def test_any_size_can_stand_in_a_card(number: float) -> None:
    assert tomllib.loads(f"x = {toml(number)}") == {"x": number}


def test_files_beside_a_card_are_named_so_that_both_can_be_moved(tmp_path: Path) -> None:
    file = tmp_path / "a" / "hest" / "x.tif"

    assert reference(file, tmp_path / "a" / "set") == "../hest/x.tif"
    assert reference(file, tmp_path / "a" / "hest" / "set") == "../x.tif"
    assert reference(file, tmp_path / "b" / "set") == str(file)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "TASK", slides(), [(["A"], ["B", "C"])])


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("TASK", {"mpp": 0.5}, "--image, --mpp and --patient are for one .h5ad"),
        (".", {}, "holds the HEST-Bench tasks TASK; import one of them"),
        ("TASK/splits", {}, "cannot be imported; wanted an .h5ad or a folder of such, a HEST-1k folder"),
        ("TASK/var_50genes.json", {}, "cannot be imported; wanted an .h5ad"),
    ],
)
def test_a_source_of_no_known_kind_is_refused(
    task: Path, tmp_path: Path, source: str, given: dict[str, object], message: str
) -> None:
    with pytest.raises(HdstError, match=message):
        import_job.execute(str(task.parent / source), str(tmp_path / "bench"), NOTHING | given)


def test_an_existing_folder_is_kept(task: Path, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "mine").touch()

    with pytest.raises(DataError, match="bench exists; choose another folder"):
        import_job.execute(str(task), str(tmp_path / "bench"), NOTHING)

    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["mine"]
