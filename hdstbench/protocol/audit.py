"""Is a split fair? Findings that stop a run, or travel with its records as flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hdstbench.protocol.splits import Split

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a reader of scores should know.

    Attributes:
        id: Name of the kind; docs/audit.md tells what each is.
        severity: An `error` stops a run; a `warning` travels with its records and shows as a flag in its
            tables; a `note` is told and no more.
        basis: Whether it rests on what a card or this package declares, or on the data themselves.
        message: What was found, and what to do.
    """

    id: str
    severity: Severity
    message: str
    basis: Literal["declared", "measured"] = "declared"


def audit_split(split: Split, patients: Mapping[str, str]) -> list[Finding]:
    """Check that no patient is on both sides of a fold, and that whole patients are tested.

    A split that says it is leaky gets a flag for the former; one that does not is an error. Where even
    slides are divided, the finding is named for that.
    """
    findings = []
    for number, fold in enumerate(split.folds):
        test = {patients[slide] for slide in fold.test}
        both = sorted(test & {patients[slide] for slide in split.train_of(number)})
        left = sorted(s for s in split.slides if patients[s] in test and s not in fold.test)
        if both:
            what = f"slide {', '.join(fold.test)}" if split.within else f"patient {', '.join(both)}"
            message = f"fold {number}: {what} is in training and in test"
            severity: Severity = "warning" if split.leaky else "error"
            name = "slide-leak" if split.within else "patient-leak"
            findings.append(Finding(id=name, severity=severity, message=message))
        elif left and split.unit == "patient":
            message = (
                f"fold {number} leaves out slide {', '.join(left)} of a patient it tests, though its unit "
                "is the patient"
            )
            findings.append(Finding(id="part-of-patient", severity="error", message=message))
    return findings
