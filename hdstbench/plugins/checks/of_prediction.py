"""Checks of predictions: their form, what they depend on, and what was learnt."""

import contextlib

import numpy as np

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.plugins.checks.altered import alone, without_labels
from hdstbench.plugins.checks.cohort import Cohort
from hdstbench.plugins.checks.compare import need_near, need_same
from hdstbench.plugins.checks.planted import NOISE
from hdstbench.plugins.checks.trial import (
    COLD,
    BrokenContractError,
    NothingToCheckError,
    NotRunError,
    Trial,
)
from hdstbench.rng import stream

LEARNT, UNRELATED = 0.75, 0.2
"""Correlations with a planted gene above which it is learnt, and below which nothing is."""
SPREAD = 0.3
"""Least standard deviation of what is learnt, as a share of the truth's: chance may have any correlation."""


def check_shape(trial: Trial) -> None:
    """A hidden slide gives a row a unit and a column a gene."""
    _ = trial.main
    try:
        _ = trial.whole
    except NotRunError as error:
        raise BrokenContractError(str(error)) from error.__cause__


def check_dtype(trial: Trial) -> None:
    """Predictions are float32."""
    if trial.whole.dtype != np.float32:
        msg = f"predictions are {trial.whole.dtype}, wanted float32"
        raise BrokenContractError(msg)


def check_finite(trial: Trial) -> None:
    """Predictions are finite."""
    bad = np.count_nonzero(~np.isfinite(trial.whole))
    if bad:
        msg = f"{bad} of {trial.whole.size} predicted values are not finite"
        raise BrokenContractError(msg)


def check_columns(trial: Trial) -> None:
    """Columns stand in the panel's order: high genes are predicted high."""
    _need_levels(trial.main.cohort, trial.whole)
    few = trial.fit(COLD)
    _need_levels(few.cohort, trial.predict(few, few.cohort.test.hidden()))


def check_sizes(trial: Trial) -> None:
    """A slide may have any number of units: more, a few, one, none."""
    main, usual = trial.main, np.isfinite(trial.whole).all(axis=0)
    test, other = main.cohort.test.hidden(), main.cohort.other.hidden()
    for view in (other, test.take(np.arange(5)), test.take(np.arange(1)), test.take(np.arange(0))):
        if not np.isfinite(trial.predict(main, view)[:, usual]).all():
            msg = f"predictions of a view of {len(view)} units are not finite"
            raise BrokenContractError(msg)


def check_parts(trial: Trial) -> None:
    """A part of a slide is predicted as in the whole, whoever the batch mates are."""
    main, whole = trial.main, trial.whole
    index = _some(trial, every=3)
    found = trial.predict(main, main.cohort.test.hidden().take(index))
    need_near(found, whole[index], "units of a part of the slide differ")


def check_order(trial: Trial) -> None:
    """The order of units does not matter."""
    main, whole = trial.main, trial.whole
    order = stream("order").permutation(len(whole))
    found = trial.predict(main, main.cohort.test.hidden().take(order))
    need_near(found, whole[order], "units in another order differ")


def check_context(trial: Trial) -> None:
    """A prediction depends on no more of the slide than the plugin declares."""
    main, whole, context = trial.main, trial.whole, trial.plugin.context
    if context == "slide":
        msg = "it may depend on the whole slide"
        raise NothingToCheckError(msg)
    index = _some(trial, every=2) if context == "block" else _one_a_block(trial)
    folder, cohort = trial.folder / "alone", main.cohort
    view = alone(cohort.test, cohort.prepared, folder, index)
    need_near(
        trial.predict(main, view), whole[index], f"without what lies outside of its {context}, it differs"
    )


def check_labels(trial: Trial) -> None:
    """Labels make no difference to predict, given or lying beside the pixels."""
    main, whole, test = trial.main, trial.whole, trial.main.cohort.test
    need_near(trial.predict(main, test), whole, "a slide with labels differs from a hidden one")
    bare = without_labels(test, main.cohort.prepared, trial.folder / "unlabelled")
    need_near(trial.predict(main, bare), whole, "a slide without labels in its folder differs")


def check_earlier_slides(trial: Trial) -> None:
    """Slides predicted before do not matter, nor models fitted meanwhile."""
    main, whole, cohort = trial.main, trial.whole, trial.main.cohort
    for slide in (cohort.other, cohort.train[0]):
        trial.predict(main, slide.hidden())
    with contextlib.suppress(NotRunError):
        trial.fit(COLD)
    need_same(trial.predict(main, cohort.test.hidden()), whole, "a slide predicted again differs")


def check_signal(trial: Trial) -> None:
    """Gene BRIGHT is learnt; for a model of tasks within slides, gene PLACE."""
    gene = trial.main.cohort.signal
    predicted, measured = _columns(trial, gene)
    r, spread = _correlation(predicted, measured), predicted.std() / measured.std()
    if not (r > LEARNT and spread > SPREAD):
        found = f"r is {r:.3f} on gene {gene} of the test slide and the spread {spread:.2f} of the truth's"
        msg = f"{found}, wanted more than {LEARNT} and {SPREAD}"
        raise BrokenContractError(msg)


def check_noise(trial: Trial) -> None:
    """Gene NOISE is not: who predicts it has seen the test slide's labels."""
    r = _correlation(*_columns(trial, NOISE))
    if not abs(r) < UNRELATED:
        msg = f"r is {r:.3f} on gene {NOISE} of the test slide, wanted less than {UNRELATED} either way"
        raise BrokenContractError(msg)


def _need_levels(cohort: Cohort, predicted: FloatArray) -> None:
    """Genes have the order of their mean targets, whose levels are far apart."""
    target = cohort.test.need_labels().target().mean(axis=0)
    found, wanted, genes = predicted.mean(axis=0), np.argsort(target), cohort.test.genes
    if np.isfinite(found).all() and not np.array_equal(np.argsort(found), wanted):
        levels = ", ".join(f"{gene} {value:.2f}" for gene, value in zip(genes, found, strict=True))
        msg = f"columns have means {levels}, wanted {' < '.join(genes[i] for i in wanted)}"
        raise BrokenContractError(msg)


def _columns(trial: Trial, gene: str) -> tuple[FloatArray, FloatArray]:
    """Prediction and truth of a gene over the test slide, float64 [N] each."""
    test = trial.slides.open(trial.main.cohort.test.genes).test
    column = test.genes.index(gene)
    values = trial.whole[:, column], test.need_labels().target()[:, column]
    return values[0].astype(np.float64), values[1].astype(np.float64)


def _correlation(predicted: FloatArray, measured: FloatArray) -> float:
    """Pearson's; 0 if the prediction is constant."""
    return 0.0 if np.ptp(predicted) == 0 else float(np.corrcoef(predicted, measured)[0, 1])


def _some(trial: Trial, every: int) -> IntArray:
    """Units of the test slide in ascending order: of some blocks, if the model sees blocks, or of all."""
    test = trial.main.cohort.test
    if trial.plugin.context == "block":
        return np.sort(np.concatenate(test.blocks()[::every]))
    return np.arange(len(test))[1::every]


def _one_a_block(trial: Trial) -> IntArray:
    """One unit of each block of the test slide, in ascending order."""
    blocks = trial.main.cohort.test.blocks()
    return np.sort([block[number * 7 % len(block)] for number, block in enumerate(blocks)])
