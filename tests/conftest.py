"""Slides and cohorts that many tests share; each is made once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Planted, make_slide

from hdstbench.data.card import Dataset, load_dataset
from hdstbench.simulate.cohort import Cohort, simulate

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # as in a worker: the same bits, and no crowding of two cores
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as in a worker


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("HDSTBENCH_CACHE", str(folder))
    patch.delenv("HDSTBENCH_DATA", raising=False)
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small simulated slides as files: what the demo is, at an eighth of its area."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    simulate(Cohort(slides=3, size_mm=0.5), folder)
    return folder


@pytest.fixture(scope="session")
def cohort(cohort_folder: Path) -> Dataset:
    """The card of the small cohort."""
    return load_dataset(str(cohort_folder / "dataset.toml"))


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[Planted]:
    """Three slides with planted genes; the last one is smaller."""
    folder = tmp_path_factory.mktemp("planted")
    return [
        make_slide(folder, "a", seed=1),
        make_slide(folder, "b", seed=2, turn=0.3),
        make_slide(folder, "c", seed=3, side_um=384),
    ]
