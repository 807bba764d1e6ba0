"""What no image earns on five real sections: the numbers of docs/pcc.md, held against those known before."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from helpers import test_data

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "pcc_anchors.py"
NEAR = 0.03


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    """The script of the page, on real sections."""
    if not (test_data() / "her2st").is_dir():
        pytest.skip(f"no real sections at {test_data() / 'her2st'}; set HDSTBENCH_TEST_DATA")
    found = importlib.util.spec_from_file_location("pcc_anchors", SCRIPT)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    patch = pytest.MonkeyPatch()
    patch.setenv("HDSTBENCH_DATA", str(test_data()))
    patch.setitem(sys.modules, "pcc_anchors", module)
    found.loader.exec_module(module)
    yield module
    patch.undo()


@pytest.fixture(scope="module")
def patient(study: ModuleType) -> dict[str, object]:
    return {tested.slide.id: tested for tested in study.folds("patient")}


def test_the_training_mean_scores_on_pcc_bin_without_any_image(patient: dict) -> None:
    blind = {name: tested.pcc_bin().mean() for name, tested in patient.items()}

    assert blind.pop("B4") == pytest.approx(0.30, abs=NEAR)
    assert sorted(blind) == ["C2", "C3", "C4", "C5"]
    assert all(0.45 - NEAR < value < 0.47 + NEAR for value in blind.values())


def test_it_scores_far_more_with_siblings_in_training(study: ModuleType) -> None:
    every = {tested.slide.id: tested.pcc_bin().mean() for tested in study.folds("")}

    assert all(0.68 - NEAR < every[name] < 0.73 + NEAR for name in ("C2", "C3", "C4", "C5"))


def test_depth_alone_correlates_with_normalised_genes(study: ModuleType, patient: dict) -> None:
    plain = {name: study.of_depth(tested)[0] for name, tested in patient.items()}

    assert plain.pop("B4") == pytest.approx(0.37, abs=NEAR)
    assert min(plain.values()) == pytest.approx(0.11, abs=NEAR)
    assert max(plain.values()) == pytest.approx(0.33, abs=NEAR)


def test_each_slides_own_mean_scores_when_slides_are_pooled(study: ModuleType, patient: dict) -> None:
    panel = patient["B4"].fold.panel
    genes = tuple(panel.genes[i] for i in panel.mean250)
    c_only = [tested for name, tested in patient.items() if name != "B4"]

    assert study.pooled_slide_means(c_only, genes) == pytest.approx(0.15, abs=NEAR)
    assert study.pooled_slide_means(list(patient.values()), genes) == pytest.approx(0.45, abs=NEAR)


def test_random_smooth_fields_score_nothing(study: ModuleType, patient: dict) -> None:
    assert all(abs(tested.mean_r(study.smooth_fields(tested))) < NEAR for tested in patient.values())
