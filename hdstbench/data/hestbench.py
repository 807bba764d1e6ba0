"""Placeholder, being written by helper B."""

from pathlib import Path

from hdstbench.data.card import Dataset, SampleCard
from hdstbench.data.levels import Resolution
from hdstbench.data.sample import Sample


def input_files(dataset: Dataset, card: SampleCard, res: Resolution) -> list[Path]:
    """Placeholder."""
    raise NotImplementedError


def read(dataset: Dataset, card: SampleCard, res: Resolution) -> tuple[Sample, Sample]:
    """Placeholder."""
    raise NotImplementedError
