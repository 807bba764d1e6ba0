"""A kept model applied to whole slides: the same as in the sweep, small in memory, clear about what it is."""

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from helpers import test_data, type_command
from PIL import Image
from skimage.filters import threshold_otsu

from hdstbench.arrays import BoolArray, FloatArray
from hdstbench.data.geometry import Affine
from hdstbench.data.image import ArrayImage
from hdstbench.data.prepared import load_arrays
from hdstbench.data.scan import Places, chunks, lay_grid, look_at, otsu, tissue_mask
from hdstbench.sweep.cell import load_prediction

MODELS = {"unit": ("st-net", "ridge", "ridge-levels", "bleep", "egn", "knn"), "block": ("magnet",)}
NAMES = [name for names in MODELS.values() for name in names]
SCAN = "wsi/CMU-1-Small-Region.svs"


@pytest.fixture(scope="module")
def swept(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A run of fold 0 with its fitted models."""
    folder = tmp_path_factory.mktemp("swept")
    names = ",".join((*NAMES, "mean", "his-to-gene"))
    words = f"run -m {names} -d {cohort_folder / 'dataset.toml'} -r 16um -o out".split()
    flags = ["--recipe", "tiny", "--folds", "0", "--keep-models"]
    done = type_command(*words, *flags, cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def _cell(run: Path, model: str) -> Path:
    return next(run.glob(f"*/16um/{model}/fold0-*"))


def _slide(cohort: Path, name: str = "SIM1") -> list[str]:
    places = next((cohort / name / "outs").rglob("square_016um/**/tissue_positions.parquet"))
    return ["-s", str(cohort / name / f"{name}_tissue_image.tif"), "--places", str(places)]


@pytest.mark.parametrize("model", NAMES)
def test_a_whole_slide_agrees_with_the_sweep(
    model: str, swept: Path, cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    words = ["predict", "-m", str(_cell(swept, model)), *_slide(cohort_folder), "-o", "out.h5ad"]

    done = type_command(*words, "--mpp", _mpp(cohort_folder), cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    stored, grid, whole = _stored(swept, model, own_cache)
    row = {
        tuple(place): i for i, place in enumerate(found.obs[["array_row", "array_col"]].to_numpy().tolist())
    }
    mine = np.array([row[tuple(place)] for place in grid.tolist()])
    same = whole if model in MODELS["block"] else np.ones(len(grid), bool)
    assert same.sum() > 100
    gap = np.abs(found.X[mine][same] - stored[same]).max(axis=1)
    assert np.quantile(gap, 0.99) < 1e-4 * max(1.0, float(np.abs(stored).max()))


def _mpp(cohort: Path) -> str:
    scale = next((cohort / "SIM1" / "outs").rglob("square_016um/**/scalefactors_json.json"))
    return str(json.loads(scale.read_text())["microns_per_pixel"])


def _stored(run: Path, model: str, cache: Path) -> tuple[FloatArray, FloatArray, BoolArray]:
    """What the sweep predicted of the test slide, places, and which units lie in whole blocks."""
    folder = next(p for p in (cache / "prepared").rglob("SIM1-*") if p.parent.name == "16um")
    arrays = load_arrays(folder / "pixels" / "unit.npz")
    full = np.bincount(arrays["block"]) == 64
    return load_prediction(_cell(run, model), "SIM1"), arrays["grid"], full[arrays["block"]]


def test_a_scan_without_counts_is_predicted_over_its_tissue(
    swept: Path, cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    image = cohort_folder / "SIM1" / "SIM1_tissue_image.tif"
    words = ["predict", "-m", str(_cell(swept, "st-net")), "-s", str(image), "--mpp", _mpp(cohort_folder)]

    done = type_command(*words, "--to", "8um", "-o", "out.h5ad", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert "applied to 8um" in done.stdout
    assert found.uns["hdstbench"]["training_data"] == "simulated"
    assert np.diff(np.unique(found.obs["x_um"])).min() == pytest.approx(8)
    assert np.isfinite(found.X).all()
    assert found.uns["spatial"]["SIM1_tissue_image"]["images"]["hires"].shape[2] == 3
    assert Image.open(tmp_path / "out.png").size[0] > 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.h5ad", "out.png"]


def test_a_scan_of_another_vendor_is_read_by_openslide(swept: Path, tmp_path: Path, own_cache: Path) -> None:
    path = test_data() / "wsi" / "CMU-1-Small-Region.svs"
    if not path.is_file():
        pytest.skip(f"no real slide at {path}; set HDSTBENCH_TEST_DATA")
    words = ["predict", "-m", str(_cell(swept, "his-to-gene")), "-s", str(path), "-o", "out.h5ad"]

    done = type_command(*words, cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    assert "0.4990 um a pixel (as the file says)" in done.stdout
    assert len(anndata.read_h5ad(tmp_path / "out.h5ad")) > 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-m nowhere -s {image} -o out.h5ad", "holds no fitted model; run the sweep with --keep-models"),
        ("-m {model} -s nowhere.tif -o out.h5ad --mpp 0.25", "nowhere.tif is not there"),
        ("-m {model} -s {image} -o out.csv", "wanted a name that ends in .h5ad"),
        ("-m {model} -s {image} -o no/out.h5ad", "make it first"),
        ("-m {model} -s {image} -o out.h5ad --mpp much", "wanted auto, or um a pixel"),
        ("-m {model} -s {image} -o out.h5ad --mpp 1.9", "enlarging by more than"),
        ("-m {model} -s {image} -o out.h5ad --genes NOPE", "not among the"),
        ("-m {model} -s {image} -o out.h5ad --to 12um", "no whole number of them"),
        ("-m {model} -s {image} -o out.h5ad --places no.parquet", "wanted a tissue_positions.parquet"),
        ("-m {all} -s {image} -o out.h5ad", "holds no fitted model"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    words: str, said: str, swept: Path, cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    image = cohort_folder / "SIM1" / "SIM1_tissue_image.tif"
    typed = words.format(model=_cell(swept, "mean"), image=image, all=swept).split()
    typed += [] if "--mpp" in typed else ["--mpp", _mpp(cohort_folder)]

    done = type_command("predict", *typed, cwd=tmp_path, cache=own_cache)

    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_models_that_were_not_kept_are_fitted_when_they_are_wanted(
    cohort_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    words = f"run -m mean -d {cohort_folder / 'dataset.toml'} -r 16um --recipe tiny --folds 0 -o out".split()
    first = type_command(*words, cwd=tmp_path, cache=own_cache)
    kept = list(tmp_path.rglob("model.json"))

    again = type_command(*words, "--keep-models", cwd=tmp_path, cache=own_cache)

    assert (first.returncode, again.returncode, kept) == (0, 0, [])
    assert len(list(tmp_path.rglob("model.json"))) == 1
    assert "all 4 cells" in type_command(*words, "--keep-models", cwd=tmp_path, cache=own_cache).stdout


def test_tissue_is_what_has_colour() -> None:
    picture = np.full((300, 400, 3), 242, np.uint8)
    picture[60:220, 80:300] = (205, 120, 180)
    picture[:, 380:] = 0  # what a scanner did not scan
    view = look_at(ArrayImage(picture), 4.0)

    mask = tissue_mask(view)

    inside = np.zeros((300, 400), bool)
    inside[60:220, 80:300] = True
    assert (mask != inside[: mask.shape[0], : mask.shape[1]]).mean() < 0.02


def test_the_threshold_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(5, 1, 5000), rng.normal(60, 5, 1000)])

    found, theirs = otsu(values), float(threshold_otsu(values, nbins=256))
    assert abs(found - theirs) <= np.ptp(values) / 256  # the edge of a class's last bin, or its middle


@pytest.mark.parametrize("block_um", [0.0, 128.0])
@pytest.mark.parametrize("least", [0, 1, 100, 10**6])
def test_parts_hold_every_unit_once_and_whole_blocks(block_um: float, least: int) -> None:
    rng = np.random.default_rng(1)
    grid = np.unique(rng.integers(0, 40, (700, 2)), axis=0)
    uv = (grid[:, ::-1] + 0.5) * 16.0
    places = Places(grid, uv, uv, Affine(np.eye(2, 3)))

    parts = list(chunks(places, block_um, least))

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(grid)))
    assert all(len(part) >= least for part in parts[:-1])
    blocks = [set(map(tuple, (uv[part] // (block_um or 1e-9)).tolist())) for part in parts]
    if block_um:
        assert sum(map(len, blocks)) == len(set.union(*blocks))


def test_without_tissue_nothing_is_predicted() -> None:
    view = look_at(ArrayImage(np.full((200, 200, 3), 255, np.uint8)), 1.0)

    with pytest.raises(ValueError, match="--tissue all"):
        lay_grid(np.array([200.0, 200.0]), 16.0, view, np.zeros(view.pixels.shape[:2], bool))
