"""Estimates of a dry run: from results, and from a probe."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import type_command

from hdstbench.plugins.plugin import Progress
from hdstbench.sweep.estimate import reckon


def _told(*points: tuple[float, float, str]) -> Sequence[tuple[float, Progress]]:
    return [(at, Progress(share=share, stage=stage)) for at, share, stage in points]


@pytest.mark.parametrize("rate", [0.01, 0.04])
@pytest.mark.parametrize("before", [0.0, 6.0])
def test_a_steady_fit_is_reckoned_to_its_end(rate: float, before: float) -> None:
    heard = _told(
        (before / 2, 0.5, "features SIM1"), *((before + t, rate * t, f"epoch {t}") for t in range(1, 11))
    )

    seconds, source = reckon(heard, 20)

    assert seconds == pytest.approx(before + 1 / rate)
    assert f"{rate * 10:.1%} of a fit" in source


def test_features_are_told_apart_from_the_fit() -> None:
    seconds, source = reckon(_told((1, 0.1, "features S"), (3, 0.3, "features S")), 20)

    assert seconds is None
    assert source == "features S, made once for all cells: 30% in 3 s, about 10 s a slide"


@pytest.mark.parametrize("heard", [[], _told((3, 0.0, "stains"), (8, 0.0, "stains"))])
def test_a_silent_fit_is_not_guessed(heard: Sequence[tuple[float, Progress]]) -> None:
    seconds, source = reckon(heard, 20)

    assert seconds is None
    assert "20 s of the probe" in source


def test_a_dry_run_probes_what_no_result_tells(cohort_folder: Path, tmp_path: Path, own_cache: Path) -> None:
    words = f"run -m mean,stain -d {cohort_folder / 'dataset.toml'} -r 16um -o out --folds 0".split()
    assert type_command(*words, "-m", "mean", cwd=tmp_path, cache=own_cache).returncode == 0
    before = sorted(p for p in (tmp_path / "out").rglob("*"))

    plain = type_command(*words, "--dry-run", cwd=tmp_path, cache=own_cache)
    probed = type_command(*words, "--dry-run", "--probe", cwd=tmp_path, cache=own_cache)

    assert "add --probe" in plain.stdout
    assert "probing stain ..." in probed.stdout
    assert "probing mean" not in probed.stdout
    line = next(line for line in probed.stdout.splitlines() if line.startswith("  stain"))
    assert "a whole cell of the probe" in line
    assert float(line.split()[2]) > 0
    assert sorted(p for p in (tmp_path / "out").rglob("*")) == before
    other = type_command(*words, "--recipe", "official", "--dry-run", cwd=tmp_path, cache=own_cache)
    assert "results" not in other.stdout  # those of another recipe tell nothing


def test_a_probe_without_a_dry_run_is_refused(tmp_path: Path) -> None:
    done = type_command("run", "--probe", cwd=tmp_path, cache=tmp_path)

    assert done.returncode == 2
    assert "give --dry-run --probe" in done.stderr
