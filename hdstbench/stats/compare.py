"""Which models differ: paired differences on common resamples, Holm over pairs, the rule for few patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import stats

from hdstbench.arrays import FloatArray
from hdstbench.stats.bootstrap import Interval, interval

FEW_PATIENTS = 6
"""With fewer, nothing is claimed of new patients, and the sign has to agree in every patient."""
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Model `first` against `second` on these patients.

    Attributes:
        difference: Of pcc_gene, first less second, with its 95 % limits.
        p: Two-sided, of the difference over its bootstrap standard error; NaN where nothing could be drawn.
        holm: The same after Holm's correction over all pairs.
        agrees: Whether the difference has one sign in every patient.
        few: Whether there are too few patients to do without that.
        new_patients: The difference over new patients; None with few patients.
        new_holm: Holm's p of the paired t test over patients; NaN with few.
    """

    first: str
    second: str
    difference: Interval
    p: float
    agrees: bool
    few: bool
    holm: float = float("nan")
    new_patients: Interval | None = None
    new_p: float = float("nan")
    new_holm: float = float("nan")

    @property
    def differ(self) -> bool:
        """Whether one is above the other on these patients; otherwise they tie."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or not self.holm < ALPHA:
            return False
        return (low > 0 or high < 0) and (self.agrees or not self.few)


def compare_all(
    samples: Mapping[str, FloatArray], by_patient: Mapping[str, Mapping[str, float]]
) -> tuple[Comparison, ...]:
    """Compare every pair of models.

    Args:
        samples: `resampled_pcc` of each model, [1 + R], all on the same resamples.
        by_patient: pcc_gene of each patient, by model.
    """
    pairs = [_compare(a, b, samples, by_patient) for a, b in combinations(samples, 2)]
    holm, new = holm_adjusted([c.p for c in pairs]), holm_adjusted([c.new_p for c in pairs])
    return tuple(
        replace(c, holm=float(p), new_holm=float(n)) for c, p, n in zip(pairs, holm, new, strict=True)
    )


def _compare(
    a: str, b: str, samples: Mapping[str, FloatArray], by_patient: Mapping[str, Mapping[str, float]]
) -> Comparison:
    values = samples[a] - samples[b]
    gaps = np.array([by_patient[a][name] - by_patient[b][name] for name in by_patient[a]])
    over_new = new_patients(gaps)
    return Comparison(
        first=a,
        second=b,
        difference=interval(values),
        p=_two_sided(values),
        agrees=bool((gaps > 0).all() or (gaps < 0).all()),
        few=len(gaps) < FEW_PATIENTS,
        new_patients=over_new,
        new_p=float(stats.ttest_1samp(gaps, 0).pvalue) if over_new and np.ptp(gaps) > 0 else float("nan"),
    )


def _two_sided(values: FloatArray) -> float:
    """P value of a difference that is normal with the standard error of its resamples.

    A count of resamples beyond 0 could not fall below 1 / R, which Holm over many pairs would never pass.
    """
    if np.isnan(values).any():
        return float("nan")
    error = values[1:].std(ddof=1)
    if error == 0:
        return 1.0 if values[0] == 0 else 0.0
    return float(2 * stats.norm.sf(abs(values[0]) / error))


def holm_adjusted(p: Sequence[float]) -> FloatArray:
    """P values after the step-down correction of Holm (Scand. J. Stat. 6, 1979); NaN stays and counts.

    A comparison that could not be made is part of the family all the same.
    """
    values = np.array(p, np.float64)
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")
    factor = len(values) - np.arange(len(values))
    out = np.empty_like(values)
    out[order] = np.minimum(np.maximum.accumulate(values[order] * factor), 1.0)
    return out


def new_patients(values: FloatArray) -> Interval | None:
    """Mean and 95 % t interval over patients as a sample of all; None with fewer than six."""
    count = len(values)
    if count < FEW_PATIENTS:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count))
    reach = float(stats.t.ppf(1 - ALPHA / 2, count - 1)) * error
    return Interval(mean, mean - reach, mean + reach)
