"""Write the listing of candidate targets as markdown, and keep it as JSON."""

from collections.abc import Sequence
from pathlib import Path

from hdstbench.records import load_json, save_json
from hdstbench.report.candidates import TARGETS, Candidate, Listing
from hdstbench.report.reported import METRICS, Reported, first_table
from hdstbench.report.tables import markdown_table
from hdstbench.strict import build

PAPER_DATA = "crc"
FACTOR = 2.0
SUFFIX = "-targets.json"
RULE = f"""\
**Rule.** A candidate is excluded if its MSE here, even moved by one sd over folds towards the reported
ones, is less than 1/{FACTOR:g} of the smallest or more than {FACTOR:g} times the largest MSE of the seven
models in Table 1 at this resolution. In the first case all seven trained models would be more than
{FACTOR:g} times worse than a constant; in the second even the worst of the seven would have removed more
than {1 - 1 / FACTOR:.0%} of a constant's squared error from single units.

**Its weakness.** Which slides the paper used is not known, nor how they were scaled together: a median over
other slides moves `median-log1p` up or down. The units drawn are others, four slides differ a lot, the
factor is a choice. What is not excluded is possible, not shown."""
SIMULATED = "**Simulated data.** No conclusion about targets or models is drawn from it."
MEANING = """\
The training mean predicts, for each gene, its mean over the training units; it sees no image. MSE and MAE
are means over units and genes, PCC is Pearson's r over genes within a unit (1e-8 under the root), meaned
over units: the paper's metrics. All genes of a panel count. Mean ± sd (n - 1) over folds."""


def is_excluded(row: Candidate, reported: Sequence[Reported]) -> bool:
    """Whether no trained model of the paper could plausibly stand where it stands under this target."""
    if not reported:
        return False
    of_paper = [one.scores["mse"].mean for one in reported]
    mse = row.scores["mse"]
    spread = mse.sd if mse.sd == mse.sd else 0.0
    return mse.mean + spread < min(of_paper) / FACTOR or mse.mean - spread > FACTOR * max(of_paper)


def write_listing(listing: Listing, folder: Path) -> Path:
    """Write `<stem>-targets.json` and `.md`.

    Returns:
        The markdown page.
    """
    save_json(folder / f"{listing.stem}{SUFFIX}", listing)
    page = folder / f"{listing.stem}-targets.md"
    page.write_text(render(listing), encoding="utf-8")
    return page


def load_listing(path: Path) -> Listing:
    """Read a stored listing.

    Raises:
        DataError: If it is none.
    """
    return build(Listing, load_json(path), str(path))


def render(listing: Listing) -> str:
    """The listing as markdown."""
    ours = listing.dataset == PAPER_DATA and not listing.simulated
    reported = first_table(PAPER_DATA, listing.resolution) if ours else []
    parts = [
        f"# {listing.stem}: what the training mean scores under every candidate target",
        SIMULATED if listing.simulated else "",
        f"Data: {listing.title}, {listing.resolution}. Split: {listing.split}, {listing.folds} folds.",
        MEANING,
        _table(listing, reported),
        target_list(),
        _paper(listing, reported),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def target_list() -> str:
    """The candidates in words."""
    return "\n".join(f"- `{name}`: {words}" for name, (words, _) in TARGETS.items())


def _table(listing: Listing, reported: Sequence[Reported]) -> str:
    head = ["target", "panel", "genes", "MSE", "MAE", "PCC per unit", "excluded"]
    lines = []
    for row in listing.rows:
        verdict = ("yes" if is_excluded(row, reported) else "no") if reported else "–"
        scores = [str(row.scores[metric]) for metric in METRICS]
        lines.append((f"`{row.target}`", row.panel, str(row.genes), *scores, verdict))
    return f"Measured here:\n\n{markdown_table(head, lines)}"


def _paper(listing: Listing, reported: Sequence[Reported]) -> str:
    """Reported rows and what they exclude; or why nothing is excluded."""
    if listing.dataset != PAPER_DATA or listing.simulated:
        return (
            "The MagNet paper's numbers are of other slides (colorectal cancer, `crc`; kidney, private): "
            "nothing is excluded by them here."
        )
    if not reported:
        return f"The paper has no rows at {listing.resolution}: nothing is excluded."
    head = ("model", "MSE, reported", "MAE, reported", "PCC, reported")
    lines = [(one.model, *[one.printed[metric] for metric in METRICS]) for one in reported]
    out = {row.target for row in listing.rows if is_excluded(row, reported)}
    kept = {row.target for row in listing.rows if not is_excluded(row, reported)}
    verdict = (
        f"Excluded under every panel: {_names(out - kept)}. Under some: {_names(out & kept)}. "
        f"Not excluded: {_names(kept - out)}."
    )
    table = f"Quoted from the paper's Table 1 (mean ± sd over four folds):\n\n{markdown_table(head, lines)}"
    return "\n\n".join((table, RULE, verdict))


def _names(targets: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in TARGETS if name in targets) or "none"
