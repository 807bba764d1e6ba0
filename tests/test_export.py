"""Prepared slides and predictions open as AnnData."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers import Planted, type_command
from PIL import Image
from spots import NOTHING, Array, make, write_h5ad

from hdstbench.cli import export_job, import_job
from hdstbench.data.card import Dataset
from hdstbench.data.export import prepared_anndata
from hdstbench.data.prepare import prepare_slide
from hdstbench.data.prepared import load_arrays, load_manifest
from hdstbench.errors import DataError, HdstError
from hdstbench.protocol.slide import all_counts
from hdstbench.protocol.target import find_target


def test_a_prepared_slide_opens_as_anndata(planted: list[Planted], tmp_path: Path) -> None:
    folder = planted[1].folder

    path = export_job.execute(str(folder), str(tmp_path / "new" / "slide.h5ad"))

    found = anndata.read_h5ad(path)
    ids, counts, library, _ = all_counts(folder)
    unit, manifest = load_arrays(folder / "pixels" / "unit.npz"), load_manifest(folder)
    np.testing.assert_array_equal(found.X.toarray(), counts.toarray())
    assert np.issubdtype(found.X.dtype, np.integer)
    assert tuple(found.var_names) == ids
    np.testing.assert_array_equal(found.obs["library"], library)
    np.testing.assert_array_equal(found.obsm["spatial"], unit["xy_um"])
    np.testing.assert_array_equal(found.obs[["array_row", "array_col"]], unit["grid"])
    row, col = unit["grid"][5]
    assert found.obs_names[5] == f"b:{row}_{col}"
    for name in ("block", "sampled", "window", "pad"):
        np.testing.assert_array_equal(found.obs[name], unit[name])
    for level in ("spot", "region"):
        parents = load_arrays(folder / "pixels" / f"{level}.npz")["parent"]
        np.testing.assert_array_equal(found.obs[level], parents)
    assert found.uns["hdstbench"]["pixels"] == manifest.pixels
    assert found.uns["hdstbench"]["spatial_unit"] == "um"


@pytest.mark.parametrize("name", ["16um", "55um"])
def test_the_exported_map_leads_from_the_array_to_the_places(
    cohort: Dataset, tmp_path: Path, name: str
) -> None:
    res, sample = cohort.card.resolution(name), replace(cohort.card.samples[0], shift_um=(3.0, -5.0))
    folder = prepare_slide(cohort, sample, res)

    found = anndata.read_h5ad(export_job.execute(str(folder), str(tmp_path / "slide.h5ad")))

    about = found.uns["hdstbench"]
    ones = np.ones(len(found))
    mapped = np.stack([found.obs["array_col"], found.obs["array_row"], ones], axis=1) @ about["affine"].T
    np.testing.assert_allclose(mapped, found.obsm["spatial"], atol=1e-6)
    assert (found.obs[["array_row", "array_col"]].to_numpy() < about["grid_shape"]).all()
    width, height = about["image_size"] * about["image_mpp"]
    assert (found.obsm["spatial"] < [width, height]).mean() > 0.9
    assert about["software"].startswith("spaceranger-")


def test_strata_are_exported_with_their_slide(planted: list[Planted], tmp_path: Path) -> None:
    folder = tmp_path / "slide"
    shutil.copytree(planted[0].folder, folder)
    names = np.where(np.arange(load_manifest(folder).units) % 3, "tumour", "")
    np.savez(folder / "labels" / "strata.npz", name=names)

    found = prepared_anndata(folder)

    np.testing.assert_array_equal(found.obs["stratum"].astype(str), names)


def test_an_export_is_not_taken_for_a_slide_with_an_image(planted: list[Planted], tmp_path: Path) -> None:
    path = export_job.execute(str(planted[0].folder), str(tmp_path / "slide.h5ad"))
    given = NOTHING | {"mpp": 1.0, "image": str(tmp_path / "he.png")}
    Image.new("RGB", (9, 9)).save(tmp_path / "he.png")

    with pytest.raises(DataError, match=r"is an export of a prepared slide, .* import its source"):
        import_job.execute(str(path), str(tmp_path / "out"), given)


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("slide", "there.h5ad", "there.h5ad exists; choose another name"),
        ("slide", "new.h5", "new.h5 has to end in .h5ad"),
        ("nothing", "new.h5ad", r"neither a prepared slide \(manifest.json\) nor a cell \(predictions.npz\)"),
        ("failed", "new.h5ad", r"has no predictions.npz: its model failed; see .*log.txt"),
        ("broken", "new.h5ad", r"is no prepared slide .*; remove it and run again"),
        ("torn", "new.h5ad", r"predictions.npz holds no predictions .*; remove its folder and run again"),
    ],
)
def test_what_cannot_be_exported_is_named(
    planted: list[Planted], tmp_path: Path, source: str, output: str, message: str
) -> None:
    for name in ("nothing", "failed", "broken", "torn"):
        (tmp_path / name).mkdir()
    shutil.copytree(planted[2].folder, tmp_path / "slide")
    (tmp_path / "there.h5ad").write_text("mine")
    (tmp_path / "broken" / "manifest.json").write_text("{")
    record = {"key": "k", "model": "m", "kind": "model", "recipe": "tiny", "fold": 0, "seed": 0, "task": {}}
    for name in ("failed", "torn"):
        (tmp_path / name / "record.json").write_text(json.dumps({**record, "status": "failed"}))
    (tmp_path / "torn" / "predictions.npz").write_bytes(b"PK\x03\x04 no archive")

    with pytest.raises(HdstError, match=message) as caught:
        export_job.execute(str(tmp_path / source), str(tmp_path / output))

    assert "\n" not in str(caught.value)
    assert (tmp_path / "there.h5ad").read_text() == "mine"
    assert not list(tmp_path.glob("new*"))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three .h5ad files, imported and run as a user would; cache, card and runs."""
    work = tmp_path_factory.mktemp("h5ad-job")
    for number, name in enumerate(("A", "B", "C")):
        write_h5ad(work / "files", make(name, Array(hexagonal=True, turn=0.2 * number)))
    imported = type_command("data", "import", "files", "-o", "set", cwd=work, cache=work / "cache")
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.splitlines()[-1] == "dataset: set/dataset.toml"
    words = "run -m mean,ridge -d set/dataset.toml -r 55um --recipe tiny"
    done = type_command(*words.split(), cwd=work, cache=work / "cache")
    assert done.returncode == 0, done.stderr + done.stdout
    return work


def cell(job: Path, fold: int, model: str = "ridge") -> Path:
    return next((job / "runs/default/set/55um" / model).glob(f"fold{fold}-*"))


def test_a_folder_of_files_runs_and_ridge_learns_the_planted_gene(job: Path) -> None:
    genes = pd.concat([pd.read_parquet(cell(job, fold) / "per_gene.parquet") for fold in range(3)])

    pcc = genes.groupby("gene")["pcc"].mean()
    assert pcc["ENSG0000"] > 0.4  # BRIGHT
    assert abs(pcc["ENSG0002"]) < 0.3  # NOISE


def test_prepared_patches_show_what_lies_under_their_spots(job: Path) -> None:
    folder = next((job / "cache/prepared/set/55um").glob("B-*"))
    blocks = np.load(folder / "pixels" / "blocks.npy")
    ids, counts, _, _ = all_counts(folder)

    middle = blocks[:, 27:29, 27:29, 0].mean(axis=(1, 2))

    assert blocks.shape == (48, 56, 56, 3)
    assert np.abs(middle - counts.toarray()[:, ids.index("ENSG0000")]).max() < 6


def test_predictions_open_as_anndata_with_targets_and_places(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(job / "cache"))

    found = anndata.read_h5ad(export_job.execute(str(cell(job, 0)), str(job / "fold0.h5ad")))

    folder = next((job / "cache/prepared/set/55um").glob("A-*"))
    with np.load(cell(job, 0) / "predictions.npz") as file:
        genes, predicted = file["genes"].tolist(), file["slide/A"]
    ids, counts, library, _ = all_counts(folder)
    panel = counts.toarray()[:, [ids.index(gene) for gene in genes]]
    target = find_target("log1p-cp10k").from_counts(panel, library)
    np.testing.assert_array_equal(found.X, predicted)
    np.testing.assert_array_equal(found.layers["target"], target)
    np.testing.assert_array_equal(found.obsm["spatial"], load_arrays(folder / "pixels/unit.npz")["xy_um"])
    assert found.var_names.tolist() == genes
    assert dict(zip(found.var_names, found.var["symbol"], strict=True))["ENSG0000"] == "BRIGHT"
    assert set(found.obs["slide"]) == {"A"}
    assert found.obs_names[0].startswith("A:0_")
    assert found.uns["hdstbench"]["task"]["target"] == "log1p-cp10k"


def test_predictions_open_without_their_slide(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(job / "elsewhere"))

    found = anndata.read_h5ad(export_job.execute(str(cell(job, 1)), str(job / "fold1.h5ad")))

    assert found.obs_names[:2].tolist() == ["B:0", "B:1"]
    assert "target" not in found.layers
    assert "spatial" not in found.obsm


def test_of_two_states_of_a_slide_the_one_of_the_cell_is_taken_or_none(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDSTBENCH_CACHE", str(tmp_path))
    place = tmp_path / "prepared/set/55um"
    shutil.copytree(job / "cache/prepared/set/55um", place)
    first = next(place.glob("A-*"))
    shutil.copytree(first, place / "A-11111111-22222222")
    other = load_manifest(first)
    text = json.dumps({**json.loads((first / "manifest.json").read_text()), "pixels": "other"})
    (place / "A-11111111-22222222" / "manifest.json").write_text(text)
    record = export_job.load_record(cell(job, 0))

    assert export_job.find_prepared(record, "A", 48, "") is None
    assert export_job.find_prepared(record, "A", 48, other.pixels) == first
    assert export_job.find_prepared(record, "A", 47, other.pixels) is None


def test_a_sweep_on_prepared_data_needs_no_anndata(job: Path, tmp_path: Path) -> None:
    (tmp_path / "anndata.py").write_text("raise ImportError('not here')")
    words = ("run", "-m", "mean", "-d", str(job / "set/dataset.toml"), "-r", "55um", "--recipe", "tiny")

    done = type_command(*words, cwd=tmp_path, cache=job / "cache", env={"PYTHONPATH": str(tmp_path)})

    assert done.returncode == 0, done.stderr + done.stdout
    assert len(list((tmp_path / "runs").rglob("mean/*/scores.json"))) == 3
