"""The audit as a command, and before every sweep."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hdstbench.cli.data_ready import have_slides
from hdstbench.cli.simulated import located
from hdstbench.cli.view import View, make_view
from hdstbench.errors import DataError
from hdstbench.protocol.audit import Finding
from hdstbench.sweep.audit import audit_job
from hdstbench.sweep.options import Options, resolve
from hdstbench.sweep.plan import Job
from hdstbench.sweep.rows import row_names
from hdstbench.sweep.setting import Setting, set_models

CODES = {"note": 0, "warning": 1, "error": 3}


def execute(given: Mapping[str, Any], sweep_file: str, *, as_json: bool, yes: bool) -> int:
    """Audit what a run with these options would do.

    Returns:
        The exit code: that of the worst finding.
    """
    from hdstbench.cli.run_job import plan_jobs  # noqa: PLC0415 - it audits too

    options, used = resolve(given, sweep_file)
    view = make_view(as_json=as_json)
    if used:
        view.say(f"options from {used}")
    worst = 0
    models = row_names(options.models, options.rows)
    for job in plan_jobs(options, lenient=True):
        folders = have_slides(job, options, view, yes=yes)
        findings = findings_of(job, set_models(models, job.recipe, options), folders, options, view)
        _tell(job, findings, view, as_json=as_json)
        worst = max([worst, *(CODES[f.severity] for f in findings)])
    return worst


def findings_of(
    job: Job, settings: Sequence[Setting], folders: Mapping[str, Path], options: Options, view: View
) -> list[Finding]:
    """What the audit finds, each thing once."""
    here = replace(job, dataset=located(job.dataset))
    return list(dict.fromkeys(audit_job(here, settings, folders, options, view.say)))


def audited(
    job: Job, settings: Sequence[Setting], folders: Mapping[str, Path], options: Options, view: View
) -> Job:
    """The job with what was found as flags.

    Raises:
        DataError: If something is an error; names the first.
    """
    findings = findings_of(job, settings, folders, options, view)
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: hdstbench audit)" if len(errors) > 1 else ""
        msg = f"audit of {job.stem}: {errors[0].id}: {errors[0].message}{more}"
        raise DataError(msg)
    new = [f for f in findings if f.severity == "warning" and f.id not in job.flags]
    for finding in new:
        view.say(f"audit of {job.stem}: {finding.id}: {finding.message}")
    return dataclasses.replace(job, flags=(*job.flags, *dict.fromkeys(f.id for f in new)))


def _tell(job: Job, findings: Sequence[Finding], view: View, *, as_json: bool) -> None:
    for finding in findings:
        if as_json:
            print(json.dumps({"table": job.stem, **asdict(finding)}))
        else:
            view.say(f"{job.stem}: {finding.severity} {finding.id} ({finding.basis}): {finding.message}")
    if not findings and not as_json:
        view.say(f"{job.stem}: nothing found")
