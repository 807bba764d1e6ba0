"""Simulate what `hdstbench data simulate` asks for."""

from collections.abc import Mapping
from pathlib import Path

from hdstbench.cli.view import make_view
from hdstbench.data.card import simulated_root
from hdstbench.simulate.cohort import Cohort, cohort_key, simulate
from hdstbench.strict import build


def execute(output: str | None, given: Mapping[str, object]) -> Path:
    """Simulate a cohort, or find it in the cache.

    Returns:
        Its card.
    """
    cohort = build(Cohort, given, "hdstbench data simulate")
    folder = Path(output) if output else simulated_root() / cohort_key(cohort)
    if output or not folder.is_dir():
        view = make_view(as_json=False)
        with view.stage(f"simulating {cohort.slides} slides", cohort.slides) as advance:
            simulate(cohort, folder, advance)
    return folder / "dataset.toml"
