"""Small slides with a known answer, and a way to type commands."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import sparse

from hdstbench.data.counts import Counts, picks_rows
from hdstbench.plugins.checks.planted import GENES, MPP, Planted, affine, make_slide

__all__ = ["GENES", "MPP", "Planted", "affine", "make_slide", "take", "test_data", "type_command"]


def type_command(
    *words: str, cwd: Path, cache: Path, data: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `hdstbench ...` as a user would, in a process of its own."""
    places = {"HDSTBENCH_CACHE": str(cache), "HDSTBENCH_DATA": str(data or cache / "data")}
    return subprocess.run(
        [sys.executable, "-m", "hdstbench", *words],
        cwd=cwd,
        env={**os.environ, **places, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def take(counts: Counts, rows: np.ndarray) -> sparse.csr_array:
    """Chosen units of any counts, in the order given."""
    return counts.sums(picks_rows(rows, len(counts)))[0]


def test_data() -> Path:
    """Real files to test on, if there are any."""
    return Path(os.environ.get("HDSTBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


test_data.__test__ = False  # type: ignore[attr-defined]
