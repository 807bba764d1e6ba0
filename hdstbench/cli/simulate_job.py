"""Simulate what `hdstbench data simulate` asks for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from hdstbench.cli.view import make_view
from hdstbench.data.card import cache_root
from hdstbench.simulate.cohort import Cohort, simulate
from hdstbench.simulate.constants import VERSION
from hdstbench.strict import build


def execute(output: str | None, given: Mapping[str, object]) -> Path:
    """Simulate a cohort, or find it in the cache.

    Returns:
        Its card.
    """
    cohort = build(Cohort, given, "hdstbench data simulate")
    folder = Path(output) if output else _cached(cohort)
    if output or not folder.is_dir():
        view = make_view(as_json=False)
        with view.stage(f"simulating {cohort.slides} slides", cohort.slides) as advance:
            simulate(cohort, folder, advance)
    return folder / "dataset.toml"


def _cached(cohort: Cohort) -> Path:
    key = json.dumps([VERSION, asdict(cohort)], sort_keys=True)
    return cache_root() / "simulated" / hashlib.sha256(key.encode()).hexdigest()[:12]
