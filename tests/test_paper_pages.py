"""Runs of protocol magnet-paper from the command line, the listing of targets, and the reproduction page."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import type_command

from hdstbench.data.card import Dataset, load_dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.protocol.rules import slide_folds
from hdstbench.protocol.slide import all_counts
from hdstbench.report import reproduction
from hdstbench.report.candidates import TARGETS, Candidate, Listing, Source, list_candidates
from hdstbench.report.candidates_text import is_excluded, load_listing, render
from hdstbench.report.reported import Score, first_table, reported_rows
from hdstbench.report.reproduction import render_page
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import Job, plan_job

PAPER = Options(protocol="magnet-paper")
ROOT = Path(__file__).parents[1]
WORDS = (
    "run -m mean --res 16um --protocol magnet-paper",
    "run -m mean,ridge --res 55um --protocol magnet-paper",
)


@pytest.fixture(scope="module")
def run(cohort_folder: Path, own_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two small runs, the second of them typed again."""
    folder, text = tmp_path_factory.mktemp("paper"), ""
    for words in (*WORDS, WORDS[1]):
        card = str(cohort_folder / "dataset.toml")
        done = type_command(*words.split(), "-d", card, cwd=folder, cache=own_cache)
        assert done.returncode == 0, done.stdout + done.stderr
        text += done.stdout
    assert "simulated-16um-magnet-paper: Simulated cohort (generator 1, seed 0), by pcc_bin" in text
    assert "pcc_bin ↑" in text
    assert text.count("targets: runs/default/simulated-55um-magnet-paper-targets.md") == 2
    assert "all 12 cells are there already" in text
    return folder / "runs" / "default"


@pytest.fixture(scope="module")
def job(cohort: Dataset) -> tuple[Job, dict[str, Path]]:
    found = plan_job(cohort, "16um", PAPER)
    return found, {s.id: prepare_slide(cohort, s, found.resolution) for s in cohort.card.samples}


@pytest.mark.parametrize("res", ["16um", "55um"])
def test_the_table_is_by_pcc_bin_and_says_so(run: Path, res: str) -> None:
    text = (run / f"simulated-{res}-magnet-paper.md").read_text()
    table = pd.read_csv(run / f"simulated-{res}-magnet-paper.csv")

    assert text.startswith(
        f"# simulated-{res}-magnet-paper: Simulated cohort (generator 1, seed 0), by pcc_bin\n"
    )
    assert "| model | pcc_bin ↑ | pcc_gene ↑ |" in text
    assert "**Simulated data.**" in text
    assert "Intervals, ‡ and `over shuffled` exist for `pcc_gene` alone" in " ".join(text.split())
    assert "`panel-sees-test`: the genes were chosen by all slides" in text
    for _, rows in table.groupby("kind"):
        assert rows["pcc_bin"].is_monotonic_decreasing


def test_what_is_attainable_is_known_of_bins_and_not_of_tiles(run: Path) -> None:
    tables = [pd.read_csv(run / f"simulated-{res}-magnet-paper.csv") for res in ("16um", "55um")]

    bins, tiles = (set(table.loc[table["kind"] == "oracle", "model"]) for table in tables)

    assert bins == {"attainable", "depth", "slide-mean"}
    assert tiles == {"depth", "slide-mean"}
    best = tables[0].set_index("model")
    assert best.loc["attainable", "mse"] < best.loc["slide-mean", "mse"] < best.loc["mean", "mse"]


def test_the_listings_median_row_is_the_mean_control(run: Path) -> None:
    """Scores leave out genes that hardly occur, the listing does not; at 16 um here none is."""
    table = pd.read_csv(run / "simulated-16um-magnet-paper.csv").set_index("model")
    listing = load_listing(run / "simulated-16um-magnet-paper-targets.json")
    row = next(r for r in listing.rows if (r.target, r.panel) == ("median-log1p", "top 250 of all slides"))

    assert row.scores["mse"].mean == pytest.approx(table.loc["mean", "mse"], rel=1e-5)
    assert row.scores["pcc"].mean == pytest.approx(table.loc["mean", "pcc_bin"], rel=1e-5)
    assert len(listing.rows) == 2 * len(TARGETS)
    text = (run / "simulated-16um-magnet-paper-targets.md").read_text()
    assert "**Simulated data.**" in text
    assert "of other slides" in text
    assert "| yes |" not in text


def test_candidates_are_the_formulas_of_their_sources(job: tuple[Job, dict[str, Path]]) -> None:
    """Fold 0 by hand: the training mean of each gene against SIM1."""
    planned, folders = job
    source = Source(
        stem="x", dataset=planned.dataset, task=planned.task, split=planned.split, folds=(0,), folders=folders
    )
    listing = list_candidates(source)
    ids = all_counts(folders["SIM1"])[0]
    share = np.mean([all_counts(f)[3] / all_counts(f)[3].sum() for f in folders.values()], axis=0)
    columns = np.argsort(-share, kind="stable")[:250]
    counts = {name: all_counts(f)[1][:, columns].toarray().astype(float) for name, f in folders.items()}
    library = {name: all_counts(f)[2] for name, f in folders.items()}
    median = {name: np.median(own[own > 0]) for name, own in library.items()}
    formulas = {
        "median-log1p": lambda c, n: np.log(1 + c / np.maximum(library[n], 1)[:, None] * median[n]),
        "log1p-cp10k": lambda c, n: np.log(1 + c / np.maximum(library[n], 1)[:, None] * 1e4),
        "triplex-release": lambda c, n: np.log10(1 + 1e4 * c / np.maximum(c.sum(1), 1)[:, None]),
        "triplex-refactored": lambda c, n: np.log(1 + 1e4 * c / np.maximum(c.sum(1), 1)[:, None]),
        "asign": lambda c, n: np.log((c + 1) / (c + 1).sum(1)[:, None]),
        "raw-log1p": lambda c, n: np.log(1 + c),
    }

    assert len(ids) > 250
    assert list(formulas) == list(TARGETS)
    for name, formula in formulas.items():
        values = {n: formula(c, n) for n, c in counts.items()}
        mean = np.concatenate([values[n] for n in ("SIM2", "SIM3")]).mean(axis=0)
        row = next(r for r in listing.rows if (r.target, r.panel) == (name, "top 250 of all slides"))
        assert row.scores["mse"].mean == pytest.approx(((values["SIM1"] - mean) ** 2).mean(), rel=1e-5)
        assert row.scores["mae"].mean == pytest.approx(np.abs(values["SIM1"] - mean).mean(), rel=1e-5)
        r = [np.corrcoef(mean, row_)[0, 1] if np.ptp(row_) else 0 for row_ in values["SIM1"]]
        assert row.scores["pcc"].mean == pytest.approx(np.mean(r), abs=1e-4)
        assert np.isnan(row.scores["mse"].sd)


def test_a_printed_panel_has_rows_of_its_own(job: tuple[Job, dict[str, Path]], tmp_path: Path) -> None:
    planned, folders = job
    ids = all_counts(folders["SIM1"])[0]
    (tmp_path / "genes.txt").write_text("\n".join([*ids[:30], "ABSENT"]))
    card = replace(planned.dataset.card, panels={"magnet-paper-16um-55um": "genes.txt"}, splits={})
    own = plan_job(replace(planned.dataset, card=card, place=tmp_path), "16um", PAPER)
    source = Source(
        stem="x", dataset=own.dataset, task=own.task, split=own.split, folds=(0, 1), folders=folders
    )

    listing = list_candidates(source)

    assert own.panel == "magnet-paper-16um-55um"
    assert [row.panel for row in listing.rows[:3]] == [
        "printed",
        "top 250 of all slides",
        "top 250 of the training slides",
    ]
    assert {row.genes for row in listing.rows if row.panel == "printed"} == {30}


def candidate(mse: float, sd: float) -> Candidate:
    return Candidate(
        target="raw-log1p",
        panel="printed",
        genes=250,
        scores=dict.fromkeys(("mse", "mae", "pcc"), Score(mse, sd)),
    )


@pytest.mark.parametrize(
    ("mse", "sd", "excluded"),
    [
        (0.564, 0.1, False),  # as the best reported one, 0.564 to 0.740 at 16 um
        (0.29, 0.0, False),
        (0.28, 0.0, True),
        (0.25, 0.04, False),
        (1.47, 0.0, False),
        (1.49, 0.0, True),
        (1.60, 0.13, False),
        (1.60, float("nan"), True),
    ],
)
def test_a_candidate_is_excluded_beyond_twice_the_reported_errors(
    mse: float, sd: float, excluded: bool
) -> None:
    assert is_excluded(candidate(mse, sd), first_table("crc", "16um")) is excluded
    assert not is_excluded(candidate(mse, sd), [])


def test_only_the_real_slides_of_the_paper_exclude_anything() -> None:
    listing = Listing(
        stem="crc-16um-magnet-paper",
        dataset="crc",
        title="CRC",
        resolution="16um",
        split="slides",
        simulated=False,
        folds=4,
        key="",
        rows=(candidate(9.0, 0.1), replace(candidate(0.6, 0.1), target="median-log1p")),
    )

    text = render(listing)

    assert "Excluded under every panel: `raw-log1p`. Under some: none. Not excluded: `median-log1p`." in text
    assert "| MagNet | 0.564 ± 0.184 | 0.581 ± 0.114 | 0.574 ± 0.154 |" in text
    measured, quoted = text.split("Quoted from the paper's Table 1")
    assert "0.564" not in measured
    assert "9.000 ± 0.100" not in quoted
    assert "| yes |" not in render(replace(listing, simulated=True))
    assert "no rows at 2um" in render(replace(listing, resolution="2um"))


def test_every_reported_number_is_there_as_printed() -> None:
    rows = reported_rows()

    assert len(rows) == 60
    assert [sum(row.table == number for row in rows) for number in (1, 2, 3, 4)] == [42, 8, 4, 6]
    bleep = next(r for r in first_table("crc", "8um") if r.model == "BLEEP")
    assert bleep.printed == {"mse": "0.348 ± 0.041", "mae": "0.440 ± 0.0361", "pcc": "0.475 ± 0.1379"}
    assert bleep.scores["pcc"] == Score(0.475, 0.1379)


def test_the_committed_page_is_what_the_command_writes(tmp_path: Path, own_cache: Path) -> None:
    shutil.copytree(ROOT / "leaderboards", tmp_path / "leaderboards")
    page = "docs/magnet-reproduction.md"

    done = type_command("leaderboard", "leaderboards", "--reproduction", page, cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    text = (tmp_path / page).read_text()
    assert text == (ROOT / page).read_text()
    assert not re.search(r"\{[a-z]+[ \d]*\}", text)
    assert text.count("not measured") >= 60
    assert "**simulated**" in text


def test_what_the_page_says_of_targets_is_so() -> None:
    """On the simulated listings: whose error of a constant falls and whose grows; and the reported ones."""
    error: dict[str, list[float]] = {}
    demo = load_dataset("demo")
    for res in ("8um", "16um", "55um"):
        listing = load_listing(ROOT / "leaderboards" / "records" / f"demo-{res}-magnet-paper-targets.json")
        assert listing.simulated
        assert (listing.title, listing.folds) == (demo.card.title, len(slide_folds(demo).folds))
        for row in listing.rows:
            if row.panel == "top 250 of all slides":
                error.setdefault(row.target, []).append(row.scores["mse"].mean)

    falls = {name for name, mse in error.items() if mse[0] > mse[1] > mse[2]}
    grows = {name for name, mse in error.items() if mse[0] < mse[1] < mse[2]}
    assert falls == {"log1p-cp10k", "triplex-release", "triplex-refactored"}
    assert grows == {"median-log1p", "raw-log1p", "asign"}
    first = [r for r in reported_rows() if r.table == 1]
    keys = dict.fromkeys((r.dataset, r.model) for r in first)
    fallen = {
        (metric, *key)
        for metric in ("mse", "pcc")
        for key in keys
        if (v := [r.scores[metric].mean for r in first if (r.dataset, r.model) == key]) != sorted(v)
    }
    assert fallen == {("pcc", "crc", "TRIPLEX")}
    real = pd.read_csv(ROOT / "leaderboards" / "her2st-100um.csv").set_index("model")["pcc_bin"]
    best = real[[name for name in reproduction.MODELS.values() if name in real]].max()
    assert 0 < best - real["mean"] < 0.05


def test_records_of_the_papers_slides_fill_the_measured_columns(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated records made to look like those of crc, and a model of the paper's that is `ridge`."""
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    for path in (*tmp_path.rglob("record.json"), *tmp_path.glob("*.plan.json")):
        content = json.loads(path.read_text())
        if path.name == "record.json":
            content["task"]["dataset"] = "crc"
        else:
            content |= {"simulated": False, "recipe": "official", "panel": "magnet-paper-16um-55um"}
        path.write_text(json.dumps(content))
    monkeypatch.setattr(reproduction, "MODELS", {**reproduction.MODELS, "EGN": "ridge"})
    plans = sorted(tmp_path.glob("*.plan.json"))
    score = pd.read_csv(run / "simulated-55um-magnet-paper.csv").set_index("model").loc["ridge"]

    text = render_page(plans, [])
    lines = [line for line in text.splitlines() if line.startswith("| EGN | CRC |")]
    before = render_page(sorted(run.glob("*.plan.json")), [])
    for path in plans:
        path.write_text(path.read_text().replace('"official"', '"quick"'))
    shrunk = render_page(plans, [])

    assert "0.778 ± 0.229 | 0.651 ± 0.105 | 0.674 ± 0.071 |" in lines[2]
    assert f"| {score['mse']:.3f} ± " in lines[2]
    assert f"| {score['pcc_bin']:.3f} ± " in lines[2]
    assert lines[2].endswith("| `simulated-55um-magnet-paper`, `ridge`, recipe `official`, 3 slides |")
    assert lines[0].endswith("|  |  |  | not measured |")
    assert "Measured so far: 1 of the rows." in text
    assert "Measured so far: none of the rows." in before  # simulated runs fill nothing
    assert "Measured so far: none of the rows." in shrunk  # nor does a recipe that shrinks networks


def test_the_listing_goes_with_the_tables(run: Path, tmp_path: Path, own_cache: Path) -> None:
    done = type_command("leaderboard", str(run), "-o", "boards", cwd=tmp_path, cache=own_cache)

    assert done.returncode == 0, done.stderr
    name = "simulated-16um-magnet-paper-targets"
    assert (tmp_path / "boards" / f"{name}.md").read_bytes() == (run / f"{name}.md").read_bytes()
    assert (tmp_path / "boards" / "records" / f"{name}.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run -m mean -d her2st -r 100um --protocol magnet-paper", "has spots of 100 um, choose protocol hd"),
        ("run -m mean -d demo -r 16um --protocol magnet", "'magnet' is not one of 'hd', 'magnet-paper'"),
        ("run -m mean -d demo -r 16um --protocol magnet-paper --bins all", "leave out --bins all"),
    ],
)
def test_a_wrong_request_is_explained(words: str, message: str, tmp_path: Path) -> None:
    done = type_command(*words.split(), cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == 2
    assert message in done.stderr


def test_a_sweep_file_names_the_protocol(tmp_path: Path) -> None:
    (tmp_path / "hdstbench.toml").write_text('protocol = "magnet-paper"\ndataset = ["crc"]\nres = ["8um"]\n')

    done = type_command("run", "-m", "mean", "--dry-run", cwd=tmp_path, cache=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "crc-8um-magnet-paper: 4 cells" in done.stdout
