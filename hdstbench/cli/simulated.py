"""Where a data set's files are or go, if the suite can simulate them."""

from dataclasses import replace

from hdstbench.data.card import Dataset, simulated_root
from hdstbench.simulate.cohort import Cohort, cohort_key


def cohort_of(dataset: Dataset) -> Cohort | None:
    """What a card says is to be simulated."""
    table = dataset.card.simulate
    return Cohort(seed=table.seed, slides=table.slides, size_mm=table.size_mm) if table else None


def located(dataset: Dataset) -> Dataset:
    """The data set with its folder; simulated files lie under a name made from what made them."""
    cohort = cohort_of(dataset)
    if cohort is None or dataset.root.is_dir():
        return dataset
    key = cohort_key(cohort)
    return replace(dataset, root=simulated_root() / key, made=key)
