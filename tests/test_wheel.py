"""The wheel holds what is read at run time, and none of what is not."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "hdstbench": ROOT,
    "hdstbench_baselines": ROOT / "baselines",
    "hdstbench_magnet": ROOT / "models/magnet",
    "hdstbench_datasets": ROOT / "datasets",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that is built from this folder."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_it_holds_every_file_of_its_packages(wheel: set[str]) -> None:
    """Templates of new models, the report's page, cards, splits, panels and presets among them."""
    for name, root in PACKAGES.items():
        there = {
            str(path.relative_to(root))
            for path in (root / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert there <= wheel, there - wheel
    assert "hdstbench/plugins/template/model.py.txt" in wheel
    assert "hdstbench/report/html/assets/index.html" in wheel


def test_it_holds_nothing_else(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {name for name in tops if not name.endswith(".dist-info")} == set(PACKAGES)
