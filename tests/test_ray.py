"""Cells on a Ray cluster of two nodes: the same records, whoever dies."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from hdstbench.sweep.parcel import pack, unpack, unpack_once
from hdstbench.sweep.store import INDEX

Cluster: TypeAlias = Any  # an optional package's class
ray: Any = pytest.importorskip("ray", reason="needs the ray extra, which make test installs")


def test_a_parcel_is_its_folder_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(b"\0\1")
    (source / "other").write_text("text")

    unpack(pack(source)[1], tmp_path / "copy")
    again = unpack_once(pack(tmp_path / "copy"), tmp_path / "cache")

    assert (again / "deep" / "file").read_bytes() == b"\0\1"
    assert {p.name for p in again.iterdir()} == {"deep", "other"}
    assert unpack_once(pack(source), tmp_path / "cache").is_dir()


@pytest.fixture(scope="module")
def cluster(own_cache: Path) -> Iterator[Cluster]:
    """A head without room for cells, and one node with room for one."""
    from ray import cluster_utils  # noqa: PLC0415

    found = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def _start(cohort_folder: Path, folder: Path, own_cache: Path, *words: str) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    card = str(cohort_folder / "dataset.toml")
    sweep = ("run", "-m", "mean,stain,st-net", "-d", card, "-r", "16um", "--folds", "0", "--recipe", "tiny")
    return subprocess.Popen(
        [sys.executable, "-m", "hdstbench", *sweep, "-o", "out", *words],
        cwd=folder,
        env={**os.environ, "HDSTBENCH_CACHE": str(own_cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(process: "subprocess.Popen[str]") -> str:
    said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    return said


def _tables(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "out").glob("*.csv")}


@pytest.fixture(scope="module")
def local(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("local")
    _finish(_start(cohort_folder, folder, own_cache))
    return folder


def test_both_ways_to_share_give_the_scores_of_local_workers(
    cluster: Cluster, cohort_folder: Path, local: Path, tmp_path: Path, own_cache: Path
) -> None:
    for share in ("shared", "store"):
        folder = tmp_path / share
        words = ("--executor", "ray", "--address", cluster.address, "--share", share)

        _finish(_start(cohort_folder, folder, own_cache, *words))

        assert _tables(folder) == _tables(local)
        for scores in (local / "out").rglob("scores.json"):
            other = folder / "out" / scores.relative_to(local / "out")
            assert other.read_bytes() == scores.read_bytes()
        assert len((folder / "out" / INDEX).read_text().splitlines()) == 6


def test_a_node_that_is_killed_in_mid_sweep_costs_only_time(
    cluster: Cluster, cohort_folder: Path, local: Path, tmp_path: Path, own_cache: Path
) -> None:
    second = cluster.add_node(num_cpus=1)
    process = _start(cohort_folder, tmp_path, own_cache, "--executor", "ray", "--address", cluster.address)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)

    cluster.remove_node(second, allow_graceful=False)

    _finish(process)
    assert _tables(tmp_path) == _tables(local)


def test_no_cluster_is_one_line(cohort_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    process = _start(cohort_folder, tmp_path, own_cache, "--executor", "ray", "--address", "127.0.0.1:1")
    said = process.communicate(timeout=120)[0]

    assert process.returncode == 2
    assert "error: no Ray cluster at 127.0.0.1:1" in said
    assert "Traceback" not in said
