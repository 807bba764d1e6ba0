"""The conformance suite: what every model has to keep, whoever wrote it.

@pytest.fixture(scope="module")
def trial(tmp_path_factory):
return Trial(PLUGIN, tmp_path_factory.mktemp("trial"))

@pytest.mark.parametrize("check", checks(), ids=name_of)
def test_the_model_keeps_the_contract(check, trial):
outcome = run_check(check, trial)
assert outcome.ok, outcome.says
"""

from hdstbench.plugins.checks.run import (
    Check,
    Outcome,
    Status,
    check_model,
    checks,
    claim_of,
    name_of,
    run_check,
)
from hdstbench.plugins.checks.trial import BrokenContractError, Trial

__all__ = [
    "BrokenContractError",
    "Check",
    "Outcome",
    "Status",
    "Trial",
    "check_model",
    "checks",
    "claim_of",
    "name_of",
    "run_check",
]
