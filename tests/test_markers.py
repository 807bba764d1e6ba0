"""Marker genes that are added to a panel and to the report (`--genes`)."""

import dataclasses
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import type_command
from PIL import Image
from scipy import stats as scipy_stats

from hdstbench.data.card import Dataset
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import MissingError
from hdstbench.protocol import markers as markers_module
from hdstbench.protocol.markers import add_markers, find_markers
from hdstbench.protocol.panel import Panel, choose_panel
from hdstbench.protocol.slide import all_counts, symbols_of
from hdstbench.protocol.target import Target
from hdstbench.protocol.task import Task, open_fold
from hdstbench.report.markers import Marker, load_markers, markers_section
from hdstbench.sweep.cell import load_prediction
from hdstbench.sweep.options import Options, resolve
from hdstbench.sweep.plan import Job, plan_cells, plan_job
from hdstbench.sweep.setting import set_models

Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(cohort: Dataset) -> Folders:
    res = cohort.card.resolution("16um")
    return {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}


@pytest.fixture(scope="module")
def panel(folders: Folders) -> Panel:
    return choose_panel([folders["SIM1"], folders["SIM2"]], list(folders.values()), Target())


def outside(panel: Panel, folder: Path) -> list[str]:
    """Ids of genes that are not in a panel, the most counted first."""
    ids, _, _, bulk = all_counts(folder)
    return [ids[i] for i in np.argsort(-bulk) if ids[i] not in panel.genes]


def added(panel: Panel, folders: Folders, *names: str) -> Panel:
    return add_markers(panel, names, [folders["SIM1"], folders["SIM2"]], list(folders.values()))


def job(cohort: Dataset, *genes: str) -> Job:
    return plan_job(cohort, "16um", Options(genes=genes))


def test_markers_stand_behind_the_panel_and_change_none_of_its_sets(panel: Panel, folders: Folders) -> None:
    symbols, others = symbols_of(folders["SIM1"]), outside(panel, folders["SIM1"])
    own = panel.genes[5]

    more = added(panel, folders, symbols[others[0]], own, others[3], others[0])

    assert more.genes == (*panel.genes, others[0], others[3])
    count = len(panel.genes)
    assert more.markers == ((symbols[others[0]], count), (own, 5), (others[3], count + 1))
    np.testing.assert_array_equal(more.mean250, panel.mean250)
    np.testing.assert_array_equal(more.hvg50, panel.hvg50)
    assert more.hash != panel.hash
    assert added(panel, folders, own).hash != panel.hash


def test_of_several_ids_of_a_symbol_the_one_with_the_largest_share_is_meant(
    panel: Panel, folders: Folders
) -> None:
    symbols = symbols_of(folders["SIM1"])
    twice = next(s for s in symbols.values() if list(symbols.values()).count(s) > 1)
    share: dict[str, float] = {}
    for name in ("SIM1", "SIM2"):
        ids, _, _, bulk = all_counts(folders[name])
        for gene, count in zip(ids, bulk / bulk.sum(), strict=True):
            share[gene] = share.get(gene, 0) + count

    more = added(panel, folders, twice)

    ((name, column),) = more.markers
    assert name == twice
    assert more.genes[column] == max((g for g in symbols if symbols[g] == twice), key=lambda g: share[g])


def test_a_gene_of_no_table_is_named_with_what_looks_like_it(folders: Folders) -> None:
    symbol = next(s for s in symbols_of(folders["SIM1"]).values() if s.startswith("TYPE"))

    with pytest.raises(MissingError, match=rf"marker gene {symbol}x; did you mean {symbol}") as caught:
        find_markers([f"{symbol}x"], list(folders.values()))
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingError, match=rf"{symbol.lower()}; did you mean {symbol}"):
        find_markers([symbol.lower()], list(folders.values()))
    with pytest.raises(MissingError, match=r"no slide's table has the marker gene \?\?$"):
        find_markers(["??"], list(folders.values()))


def test_a_gene_that_one_slide_lacks_is_named_with_the_slide(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    gene = next(iter(symbols_of(folders["SIM3"])))

    def without(folder: Path) -> dict[str, str]:
        return {g: s for g, s in symbols_of(folder).items() if g != gene or folder != folders["SIM3"]}

    monkeypatch.setattr(markers_module, "symbols_of", without)

    with pytest.raises(MissingError, match=f"{gene} is not in every slide's table; it is missing from SIM3$"):
        find_markers([gene], list(folders.values()))


def test_a_task_without_markers_is_what_it_was_before_there_were_any() -> None:
    task = Task(dataset="x", resolution="16um", split="s", split_hash="h", panel="p")
    old = {k: v for k, v in dataclasses.asdict(task).items() if k != "markers"}
    marked = replace(task, markers=("A", "B"))

    assert task.hash == hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()[:12]
    assert "markers" not in task.fields()
    assert marked.fields()["markers"] == "A,B"
    assert len({task.hash, marked.hash, replace(task, markers=("A",)).hash}) == 3


def test_markers_change_the_keys_of_cells(cohort: Dataset, folders: Folders) -> None:
    gene = next(iter(symbols_of(folders["SIM1"])))
    settings = set_models(["mean"], "quick", Options())

    plain, marked = (
        plan_cells(job(cohort, *genes), settings, folders, Options(), "cpu") for genes in ((), (gene,))
    )

    assert not {c.record.key for c in plain} & {c.record.key for c in marked}
    with pytest.raises(MissingError, match="no slide's table has the marker gene NONE"):
        plan_cells(job(cohort, "NONE"), settings, folders, Options(), "cpu")


def test_tables_with_other_markers_have_other_names(cohort: Dataset) -> None:
    plain, name = job(cohort).stem, cohort.card.name

    assert job(cohort, "SGPP1", "DPEP1").stem == f"{name}-16um-with-SGPP1-DPEP1"
    assert job(cohort, "HLA-A").stem == f"{plain}-with-HLA-A"
    others = [("HLA", "A-B"), ("HLA-A", "B"), ("a/b",), tuple(f"GENE{i}" for i in range(30))]
    stems = [job(cohort, *genes).stem for genes in others]
    assert len(set(stems)) == len(stems)
    assert all(len(stem) < len(plain) + 30 and "/" not in stem for stem in stems)


def test_a_sweep_file_may_name_them(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('genes = ["A", "B", "A"]\n')

    assert resolve({}, str(tmp_path / "s.toml"))[0].genes == ("A", "B")
    assert resolve({"genes": ("C",)}, str(tmp_path / "s.toml"))[0].genes == ("C",)


@pytest.fixture(scope="module")
def done(
    cohort_folder: Path,
    folders: Folders,
    panel: Panel,
    own_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, tuple[str, str, str]]:
    """A run on two folds without markers, then with two that no panel holds and one that is in it."""
    work = tmp_path_factory.mktemp("work")
    symbols, others = symbols_of(folders["SIM1"]), outside(panel, folders["SIM1"])
    names = (symbols[others[-1]], panel.genes[0], others[-2])
    words = ["run", "-m", "mean,stain", "-d", "demo", "-r", "16um", "--folds", "0,1"]
    for more in ([], ["--genes", ",".join(names)]):
        told = type_command(*words, *more, cwd=work, cache=own_cache, data=cohort_folder.parent)
        assert told.returncode == 0, told.stdout + told.stderr
    return work / "runs/default", names


def with_markers(base: Path, suffix: str) -> Path:
    (path,) = (
        p for p in base.glob(f"demo-16um-with-*{suffix}") if "plan" not in p.name and "cost" not in p.name
    )
    return path


def test_a_run_reports_each_marker_as_its_predictions_say(
    done: tuple[Path, tuple[str, str, str]], cohort: Dataset, folders: Folders
) -> None:
    base, (first, second, third) = done
    markers = {m["name"]: m for m in json.loads(with_markers(base, ".json").read_text())["markers"]}

    r, nonzero = [], []
    for record in base.glob("demo/16um/stain/*/record.json"):
        asked = json.loads(record.read_text())
        if "markers" not in asked["task"]:
            continue
        one = job(cohort, first, second, third)
        fold = open_fold(one.task, one.split, asked["fold"], folders)
        test, column = fold.test[0], dict(fold.panel.markers)[first]
        predicted = load_prediction(record.parent, test.slide.id)[test.headline, column]
        measured = test.slide.take(test.headline).need_labels().target()[:, column]
        r.append(scipy_stats.pearsonr(predicted.astype(float), measured.astype(float)).statistic)
        nonzero.append((measured > 0).mean())

    assert len(r) == 2
    assert markers[first]["pcc"]["stain"] == pytest.approx(np.mean(r), abs=1e-6)
    assert markers[first]["pcc"]["mean"] == 0
    assert "mean" in markers[first]["constant"]
    assert markers[first]["nonzero"] == pytest.approx(np.mean(nonzero), abs=1e-6)
    assert markers[first]["patients"] == markers[first]["of"] == 2
    assert markers[first]["counted"] == {"pcc_gene": 0, "hvg50": 0}
    assert markers[second]["counted"]["pcc_gene"] == 2
    assert markers[third]["genes"] == [third]
    assert markers[third]["unscored"] == []
    rows = pd.read_csv(with_markers(base, ".csv")).set_index("model")
    assert rows.loc["stain", f"pcc_marker_{first}"] == pytest.approx(np.mean(r), abs=1e-6)


def test_the_table_shows_markers_by_model(done: tuple[Path, tuple[str, str, str]]) -> None:
    base, (first, second, third) = done
    text = with_markers(base, ".md").read_text()

    section = text.split("## Marker genes")[1]
    assert f"| model | {first} | {second} | {third} |" in section
    assert "| mean (control) | 0.000 (constant) |" in section
    assert "too little to score" not in section


def test_the_table_without_markers_is_left_alone(done: tuple[Path, tuple[str, str, str]]) -> None:
    base, (first, *_) = done

    assert "Marker genes" not in (base / "demo-16um.md").read_text()
    assert "markers" not in json.loads((base / "demo-16um.json").read_text())
    assert first not in (base / "demo-16um.csv").read_text()
    plain = [p.parent for p in base.glob("demo/16um/mean/*/record.json") if '"markers"' not in p.read_text()]
    assert len(plain) == 2
    assert "marker" not in pd.read_parquet(plain[0] / "per_gene.parquet").columns


def test_the_picture_has_a_row_for_each_marker(done: tuple[Path, tuple[str, str, str]]) -> None:
    base, _ = done

    with Image.open(base / "demo-16um.png") as plain, Image.open(with_markers(base, ".png")) as marked:
        assert marked.width == plain.width
        assert marked.height > 2.5 * plain.height
        assert len(marked.convert("RGB").getcolors(10**7) or []) > 500


def test_the_table_is_made_again_from_copied_records(
    done: tuple[Path, tuple[str, str, str]], own_cache: Path, tmp_path: Path
) -> None:
    base, _ = done

    told = type_command(
        "leaderboard", str(base), "-o", str(tmp_path / "boards"), cwd=tmp_path, cache=own_cache
    )

    assert told.returncode == 0, told.stderr
    for suffix in (".md", ".csv", ".json"):
        path = with_markers(base, suffix)
        assert (tmp_path / "boards" / path.name).read_bytes() == path.read_bytes()


def test_slides_that_have_too_little_of_a_marker_do_not_count_and_are_named(
    done: tuple[Path, tuple[str, str, str]], tmp_path: Path
) -> None:
    base, (first, *_) = done
    cells = sorted(p.parent for p in base.glob("demo/16um/stain/*/record.json") if first in p.read_text())
    for cell in cells:
        shutil.copytree(cell, tmp_path / cell.name)
        table = pd.read_parquet(cell / "per_gene.parquet")
        table.loc[(table["marker"] == first) & (table["slide"] == "SIM1"), ["pcc", "nonzero"]] = np.nan, 0.002
        table.to_parquet(tmp_path / cell.name / "per_gene.parquet", index=False)

    whole, thin = (load_markers({"stain": found})[0] for found in (cells, [tmp_path / c.name for c in cells]))

    assert (whole.patients, thin.patients, thin.of) == (2, 1, 2)
    table = pd.concat(pd.read_parquet(cell / "per_gene.parquet") for cell in cells)
    kept = table[(table["marker"] == first) & (table["slide"] != "SIM1")]
    assert thin.pcc["stain"] == pytest.approx(kept["pcc"].item())
    (why,) = thin.unscored
    assert re.fullmatch(r"SIM1 has it in \d of [\d,]+ units", why)


def test_an_unknown_gene_stops_a_run_in_one_line(
    cohort_folder: Path, folders: Folders, own_cache: Path, tmp_path: Path
) -> None:
    symbol = next(s for s in symbols_of(folders["SIM1"]).values() if s.startswith("TYPE"))
    words = f"run -m mean -d demo -r 16um --genes {symbol}q".split()

    told = type_command(*words, cwd=tmp_path, cache=own_cache, data=cohort_folder.parent)

    assert told.returncode != 0
    assert "Traceback" not in told.stderr
    assert (
        f"no slide's table has the marker gene {symbol}q; did you mean {symbol}" in told.stdout + told.stderr
    )


def test_a_gene_that_no_slide_scores_is_a_dash() -> None:
    marker = Marker(
        name="A",
        genes=("E1", "E2"),
        nonzero=0.001,
        patients=0,
        of=3,
        counted={"pcc_gene": 1, "hvg50": 0},
        folds=2,
        unscored=("S1 has it in 7 of 5,000 units",),
        pcc={"m": None},
        constant=(),
    )

    text = markers_section([marker], [_Row("m", "model"), _Row("failed", "model")])

    assert "| A | E1, E2 | 0.1% | 0 of 3 | `pcc_gene` in 1 of 2 folds |" in text
    assert "| m | – |" in text
    assert "failed" not in text
    assert "- A: S1 has it in 7 of 5,000 units, which is too little to score." in text
    assert markers_section([], []) == ""


@dataclasses.dataclass
class _Row:
    model: str
    kind: str
