"""What a gate found, as markdown for a CI's summary."""

from collections import Counter
from collections.abc import Sequence

from hdstbench.report.gate import BAD, GAIN, NOTHING, OK, REGRESSION, Change, Gate, by_table
from hdstbench.report.tables import markdown_table, signed

SAYS = {
    OK: "**Passed**: every row is as it was, within its tolerances.",
    REGRESSION: "**Regression**: something got worse, failed or vanished.",
    GAIN: "**Suspicious gain**: nothing got worse, and something got better than its tolerances allow. If "
    "that is meant, write a new baseline; if not, look for a leak.",
    NOTHING: "**Nothing was compared**: no row of the same task stands in both.",
}
QUIET = ("ok",)


def render_gate(gate: Gate, current: str, baseline: str) -> str:
    """Markdown: the verdict, what changed, and how many rows did not."""
    parts = ["# hdstbench gate", SAYS[gate.code], f"Current: `{current}`. Baseline: `{baseline}`."]
    for table, changes in by_table(gate.changes).items():
        parts += [f"## {table}", _told(changes)]
    if gate.skipped:
        parts.append("Not compared:\n\n" + "\n".join(f"- {line}" for line in gate.skipped))
    return "\n\n".join(parts) + "\n"


def _told(changes: Sequence[Change]) -> str:
    loud = [change for change in changes if change.verdict not in QUIET]
    loud.sort(key=lambda change: (change.verdict not in BAD, change.verdict != "gain"))
    models = {change.model for change in changes}
    quiet = len(models - {change.model for change in loud})
    said = f"{quiet} of {len(models)} rows are as they were."
    if not loud:
        return said
    head = ("model", "what", "metric", "baseline", "now", "difference", "allowed")
    counted = Counter(change.verdict for change in loud)
    numbers = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    return f"{said} Else: {numbers}.\n\n" + markdown_table(head, [_line(change) for change in loud])


def _line(change: Change) -> tuple[str, ...]:
    if change.before is None or change.now is None:
        return (change.model, f"{change.verdict}: {change.why}", *["–"] * 5)
    return (
        change.model,
        f"**{change.verdict}**" if change.verdict in (*BAD, "gain") else change.verdict,
        change.metric,
        f"{change.before:.4f}",
        f"{change.now:.4f}",
        signed(change.now - change.before),
        f"±{change.allowed:.4f}",
    )
