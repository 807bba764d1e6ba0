"""A check as markdown that reads well on a terminal too."""

from collections.abc import Mapping, Sequence

from hdstbench import __version__
from hdstbench.data.duplicates import Pair
from hdstbench.data.report import SampleReport

SHOWN = 15


def render(
    title: str, reports: Sequence[SampleReport], pairs: Sequence[Pair], overlays: Mapping[str, str]
) -> str:
    """Write a check as markdown.

    Args:
        title: What was checked.
        reports: Of each sample.
        pairs: Comparisons of samples, the most alike first.
        overlays: File of each sample's picture, relative to the report.
    """
    parts = [f"# Check of {title}", f"hdstbench {__version__}: {summary(reports, pairs)}"]
    parts += [_sample(report, overlays.get(report.id, "")) for report in reports]
    if pairs:
        parts.append(_pairs(pairs, alike(pairs, reports)))
    return "\n\n".join(parts) + "\n"


def summary(reports: Sequence[SampleReport], pairs: Sequence[Pair]) -> str:
    """One line that says how it went."""
    stops = [report.id for report in reports if report.stops]
    looks = sum(not problem.stops for report in reports for problem in report.problems)
    looks += len(alike(pairs, reports))
    if not stops and not looks:
        return "nothing wrong was found"
    parts = [f"a run would fail on {', '.join(stops)}"] if stops else []
    return "; ".join(parts + ([f"{looks} thing{'s' if looks > 1 else ''} to look at"] if looks else []))


def alike(pairs: Sequence[Pair], reports: Sequence[SampleReport]) -> list[Pair]:
    """Pairs that a split by patient would tear apart, though they are not different."""
    patient = {report.id: report.patient for report in reports}
    known = {pair for pair in pairs if patient[pair.first] and patient[pair.first] == patient[pair.second]}
    return [pair for pair in pairs if pair.verdict != "different" and pair not in known]


def _sample(report: SampleReport, overlay: str) -> str:
    lines = [f"## {report.id}"]
    lines += ["", *(f"- {name}: {text}" for name, text in report.lines)] if report.lines else []
    if overlay:
        lines += ["", f"![bins over the section]({overlay})"]
    for stops, head in ((True, "A run would fail:"), (False, "To look at:")):
        found = [f"- {problem.text}" for problem in report.problems if problem.stops == stops]
        lines += ["", head, "", *found] if found else []
    return "\n".join(lines)


def _pairs(pairs: Sequence[Pair], torn: Sequence[Pair]) -> str:
    shown = pairs[: max(SHOWN, sum(pair.verdict != "different" for pair in pairs))]
    more = f", the {len(shown)} most alike of {len(pairs)} pairs" if len(shown) < len(pairs) else ""
    lines = [f"## Samples compared{more}", "", "| pair | verdict | image | maps | pseudobulk | first lies |"]
    lines.append("|---|---|---|---|---|---|")
    for p in shown:
        numbers = f"{p.image:.2f} | {p.maps:.2f} | {p.bulk:.2f}"
        lines.append(f"| {p.first}, {p.second} | {p.verdict} | {numbers} | {p.move} |")
    if torn:
        names = "; ".join(f"{pair.first}, {pair.second}" for pair in torn)
        lines += ["", f"These have to be of one patient in the card, or one has to be left out: {names}."]
    return "\n".join(lines)
