"""What a model may see: views, targets, panels, folds, inner validation, audit."""

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from helpers import GENES, MPP, Planted, make_slide
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hdstbench.data.card import Dataset, SampleCard, load_dataset, shipped
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError, MissingError
from hdstbench.protocol.audit import audit_split
from hdstbench.protocol.inner import split_inner
from hdstbench.protocol.panel import choose_panel, read_panel
from hdstbench.protocol.slide import all_counts, open_slide, sampled, symbols_of
from hdstbench.protocol.splits import FoldTable, Split, load_split
from hdstbench.protocol.target import Target, find_target
from hdstbench.protocol.task import Task, data_hash, open_fold


@given(st.integers(0, 999))
def test_the_target_is_log1p_of_counts_per_ten_thousand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, (5, 4))
    library = counts.sum(axis=1) + rng.integers(0, 900, 5)

    dense = Target().from_counts(counts, library)
    thin = Target().from_sparse(sparse.csr_array(counts), library)

    wanted = np.log(1 + counts / np.maximum(library, 1)[:, None] * 1e4)
    np.testing.assert_allclose(dense, wanted, rtol=1e-6)
    np.testing.assert_allclose(thin.toarray(), wanted)
    assert dense.dtype == np.float32


def test_an_empty_library_gives_zeros() -> None:
    assert not Target().from_counts(np.zeros((1, 3)), np.zeros(1)).any()


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(MissingError, match="no target 'sqrt'; there are log1p-cp10k"):
        find_target("sqrt")


def test_a_hidden_slide_has_pixels_and_no_labels(planted: list[Planted]) -> None:
    hidden = planted[0].slide.hidden()

    assert hidden.labels is None
    assert hidden.patches("unit", np.arange(2)).shape == (2, 14, 14, 3)
    with pytest.raises(DataError, match="is hidden"):
        hidden.need_labels()


def test_blocks_part_the_units_and_lie_within_their_region(planted: list[Planted]) -> None:
    slide = planted[1].slide

    blocks = slide.blocks()

    np.testing.assert_array_equal(np.sort(np.concatenate(blocks)), np.arange(len(slide)))
    for block in blocks:
        assert len(np.unique(slide.grid[block] // 8, axis=0)) == 1


@given(st.integers(0, 99), st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_a_taken_view_shows_the_same_as_the_whole(planted: list[Planted], seed: int, count: int) -> None:
    whole = planted[0].slide
    index = np.random.default_rng(seed).permutation(len(whole))[:count]

    part = whole.take(index)

    np.testing.assert_array_equal(part.xy_um, whole.xy_um[index])
    np.testing.assert_array_equal(part.need_labels().target(), whole.need_labels().target(index))
    np.testing.assert_array_equal(part.need_labels().library, whole.need_labels().library[index])
    for level in ("spot", "region"):
        own, full = part.parents(level), whole.parents(level)[index]
        np.testing.assert_array_equal(part.xy_of(level)[own], whole.xy_of(level)[full])
        np.testing.assert_array_equal(
            part.need_labels().coarse(level)[0][own], whole.need_labels().coarse(level)[0][full]
        )
        np.testing.assert_array_equal(part.patches(level, own[:3]), whole.patches(level, full[:3]))
    again = part.take(np.arange(count)[::-1])
    np.testing.assert_array_equal(again.xy_um, whole.xy_um[index][::-1])


def test_columns_follow_the_panels_order(planted: list[Planted]) -> None:
    folder = planted[0].folder
    forth, back = (open_slide(folder, genes, Target()) for genes in (GENES, GENES[::-1]))

    np.testing.assert_array_equal(forth.need_labels().target(), back.need_labels().target()[:, ::-1])


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_inner_validation_shares_no_pixel_with_training(tmp_path: Path, turn: float) -> None:
    slide = make_slide(tmp_path, "a", side_um=1280, turn=turn).slide

    train, val = split_inner(slide)

    assert 0.1 < len(val) / len(slide) < 0.25
    assert len(train) > 0.5 * len(slide)
    for level in slide.levels:
        half = slide.patch_px[level] * MPP / 2
        gap = np.abs(train.xy_of(level)[:, None] - val.xy_of("unit")[None]).max(axis=2).min()
        assert gap >= half + slide.patch_px["unit"] * MPP / 2 - 1e-6
    assert not set(train.rows("spot")) & set(val.rows("spot"))
    assert not set(train.rows("region")) & set(val.rows("region"))


def test_inner_validation_differs_between_slides_and_not_between_calls(tmp_path: Path) -> None:
    a, b = (make_slide(tmp_path / n, n, side_um=1024).slide for n in "ab")

    first, again, other = (split_inner(s)[1].grid for s in (a, a, b))

    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


@pytest.fixture(scope="module")
def folders(cohort: Dataset) -> dict[str, Path]:
    res = cohort.card.resolution("16um")
    return {s.id: prepare_slide(cohort, s, res) for s in cohort.card.samples}


def test_the_panel_holds_the_highest_mean_shares_of_the_training_slides(folders: dict[str, Path]) -> None:
    train = [folders["SIM1"], folders["SIM2"]]

    panel = choose_panel(train, list(folders.values()), Target())

    shares = []
    for folder in train:
        ids, _, _, bulk = all_counts(folder)
        shares.append(dict(zip(ids, bulk / bulk.sum(), strict=True)))
    mean = {gene: np.mean([s[gene] for s in shares]) for gene in shares[0]}
    assert len(panel.mean250) == 250
    assert len(panel.hvg50) == 50
    worst = min(mean[panel.genes[i]] for i in panel.mean250)
    left = set(mean) - {panel.genes[i] for i in panel.mean250}
    assert worst >= max(mean[gene] for gene in left)


def test_the_most_variable_genes_are_those_of_numpy(folders: dict[str, Path]) -> None:
    panel = choose_panel([folders["SIM1"]], list(folders.values()), Target())
    ids, counts, library, _ = all_counts(folders["SIM1"])

    variance = Target().from_counts(counts.toarray(), library).var(axis=0, dtype=np.float64)

    wanted = {ids[i] for i in np.argsort(-variance)[:50]}
    assert len(wanted & {panel.genes[i] for i in panel.hvg50}) >= 49


def test_test_slides_do_not_choose_the_panel(folders: dict[str, Path]) -> None:
    train = [folders["SIM1"], folders["SIM2"]]

    alone = choose_panel(train, train, Target())
    with_third = choose_panel(train, [*train, folders["SIM3"]], Target())

    assert alone.hash == with_third.hash


def test_a_list_of_genes_takes_the_place_of_the_top_250(folders: dict[str, Path]) -> None:
    ids, _, _, bulk = all_counts(folders["SIM1"])
    symbols = symbols_of(folders["SIM1"])
    twice = next(s for s in symbols.values() if list(symbols.values()).count(s) > 1)
    share = dict(zip(ids, bulk, strict=True))
    listed = [ids[7], symbols[ids[9]], "NOT-A-GENE", twice, ids[7]]

    panel = choose_panel([folders["SIM1"]], list(folders.values()), Target(), listed)

    chosen = [panel.genes[i] for i in panel.mean250]
    assert chosen[:2] == [ids[7], ids[9]]
    assert chosen[2] == max((i for i in ids if symbols[i] == twice), key=lambda i: share[i])
    assert len(chosen) == 3
    assert len(panel.hvg50) == 50
    with pytest.raises(DataError, match="none of the 1 listed genes, such as NOT-A-GENE"):
        choose_panel([folders["SIM1"]], list(folders.values()), Target(), ["NOT-A-GENE"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "lists 0 genes"),
        ("A\nB\nA\n", "lists 3 genes, 2 of them different"),
        (None, "No such file.*wanted a gene id or symbol a line"),
    ],
)
def test_an_unfit_list_of_genes_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "genes.txt").write_text(text)
    dataset = load_dataset("her2st")
    card = replace(dataset.card, panels={"mine": "genes.txt"})

    with pytest.raises(DataError, match=message):
        read_panel(Dataset(card, tmp_path, tmp_path), "mine")
    with pytest.raises(MissingError, match="no panel 'yours'; it has mine"):
        read_panel(Dataset(card, tmp_path, tmp_path), "yours")


def test_the_printed_panels_are_whole() -> None:
    sizes = {name: len(read_panel(load_dataset("crc"), name)) for name in load_dataset("crc").card.panels}

    assert sizes == {"magnet-paper-8um": 248, "magnet-paper-16um-55um": 250}


def test_the_template_is_a_card_for_twelve_slides_in_four_folds(tmp_path: Path) -> None:
    source = Path(str(files("hdstbench_datasets"))) / "template"
    shutil.copytree(source, tmp_path / "mine")
    (tmp_path / "mine" / "template.toml").rename(tmp_path / "mine" / "dataset.toml")

    dataset = load_dataset(str(tmp_path / "mine"))
    split = load_split(dataset, None)

    assert [len(fold.test) for fold in split.folds] == [3, 3, 3, 3]
    assert audit_split(split, {s.id: s.patient for s in dataset.card.samples}) == []
    assert {len(read_panel(dataset, name)) for name in dataset.card.panels} == {250}


def test_a_data_set_of_one_slide_has_no_split() -> None:
    with pytest.raises(MissingError, match="hd-pancreas has no split: it holds 1 slides"):
        load_split(load_dataset("hd-pancreas"), None)


def test_slides_without_a_common_gene_have_no_panel(folders: dict[str, Path], planted: list[Planted]) -> None:
    with pytest.raises(DataError, match="no gene id in common"):
        choose_panel([folders["SIM1"]], [folders["SIM1"], planted[0].folder], Target())


def _task(split: Split) -> Task:
    return Task(dataset="x", resolution="16um", split=split.name, split_hash=split.hash, panel="p")


def test_a_fold_trains_on_others_and_tests_on_its_own(cohort: Dataset, folders: dict[str, Path]) -> None:
    split = load_split(cohort, None)

    fold = open_fold(_task(split), split, 1, folders)

    assert [t.slide.id for t in fold.test] == ["SIM2"]
    assert {s.id for s in (*fold.train, *fold.val)} == {"SIM1", "SIM3"}
    everything = np.concatenate(
        [
            open_slide(folders[n], fold.panel.genes, Target())
            .take(sampled(folders[n]))
            .need_labels()
            .target()
            for n in ("SIM1", "SIM3")
        ]
    )
    np.testing.assert_allclose(fold.train_mean, everything.mean(axis=0), rtol=1e-5)


def test_hashes_follow_content(cohort: Dataset, folders: dict[str, Path]) -> None:
    split = load_split(cohort, None)
    swapped = {**folders, "SIM1": folders["SIM2"]}

    assert data_hash(split, 0, folders) == data_hash(split, 0, dict(folders))
    assert data_hash(split, 0, folders) != data_hash(split, 0, swapped)
    assert _task(split).hash != replace(_task(split), resolution="8um").hash


def _card(tmp_path: Path, split: str) -> Dataset:
    (tmp_path / "split.toml").write_text(split)
    (tmp_path / "dataset.toml").write_text(
        'name = "t"\ntitle = "t"\nreader = "spaceranger"\nlicence = ""\ncitation = ""\n'
        'resolutions = ["16um"]\n'
        '[splits]\nmain = "split.toml"\n'
        + "".join(
            f'[[samples]]\nid = "{s}"\npatient = "{p}"\npath = "{s}"\n'
            for s, p in zip("abc", "xxy", strict=True)
        )
    )
    return load_dataset(str(tmp_path))


HEAD = 'unit = "patient"\ntitle = "t"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "folds = []\n", "no fold"),
        (HEAD + '[[folds]]\ntest = ["d"]\n', "names d, which the split does not have"),
        (HEAD + '[[folds]]\ntest = ["a", "b", "c"]\n', "3 test and 0 training"),
        (HEAD + '[[folds]]\ntest = ["a"]\ntrain = ["a", "b"]\n', "has a on both sides"),
        (HEAD + 'slides = ["a", "q"]\n[[folds]]\ntest = ["a"]\n', "unknown slide q"),
        (HEAD + '[[fold]]\ntest = ["a"]\n', "unknown key 'fold'; did you mean folds"),
        ('title = "t"\n', "missing unit"),
        ('unit = "block"\ntitle = "t"\nparts = 1\n', "parts = 1 and 0 folds.*wants parts = 2 or more"),
        (
            'unit = "block"\ntitle = "t"\nparts = 2\n[[folds]]\ntest = ["a"]\n',
            "2 and 1 folds with unit 'block'",
        ),
        (HEAD + 'parts = 2\n[[folds]]\ntest = ["a"]\n', "with unit 'patient'; .* any other no parts"),
        ("title = \n", "Invalid value"),
    ],
)
def test_a_wrong_split_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_split(_card(tmp_path, text), "main")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="has no split 'other'; it has main"):
        load_split(_card(tmp_path, HEAD), "other")


@pytest.mark.parametrize(("leaky", "severity"), [(False, "error"), (True, "warning")])
def test_a_patient_on_both_sides_is_found(leaky: bool, severity: str) -> None:
    folds = (FoldTable(test=("a",)), FoldTable(test=("c",)))
    split = Split(unit="slide", title="t", folds=folds, leaky=leaky, slides=("a", "b", "c"))

    findings = audit_split(split, {"a": "x", "b": "x", "c": "y"})

    assert [(f.id, f.severity) for f in findings] == [("patient-leak", severity)]
    assert "fold 0: patient x is in training and in test" in findings[0].message


def test_a_part_of_a_patient_is_no_patient() -> None:
    folds = (FoldTable(test=("a",), train=("c",)),)
    slides = ("a", "b", "c")
    patients = {"a": "x", "b": "x", "c": "y"}

    by_patient = audit_split(Split(unit="patient", title="t", folds=folds, slides=slides), patients)
    by_slide = audit_split(Split(unit="slide", title="t", folds=folds, slides=slides), patients)

    assert [(f.id, f.severity) for f in by_patient] == [("part-of-patient", "error")]
    assert "fold 0 leaves out slide b" in by_patient[0].message
    assert by_slide == []


def test_a_clean_split_has_no_finding(cohort: Dataset) -> None:
    assert audit_split(load_split(cohort, None), {s.id: s.patient for s in cohort.card.samples}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('reader = "spaceranger"', 'reader = "magic"'),
            "reader is 'magic', wanted 'spaceranger' or 'her2st'",
        ),
        (('resolutions = ["16um"]', 'resolutions = ["17um"]'), "no resolution '17um'; there are 2um, 8um"),
        (('id = "b"', 'id = "a"'), "3 samples with 2 different ids"),
        (('licence = ""', 'licens = ""'), "unknown key 'licens'; did you mean licence"),
        (("[splits]", "[splitz]"), "unknown key 'splitz'"),
        (('name = "t"', 'name = "../up"'), "'../up' is no name; wanted letters, digits"),
        (('id = "b"', 'id = "b[1]"'), r"'b\[1\]' is no name"),
        (("[splits]", "mpp = 0.0\n[splits]"), "mpp = 0, wanted um a pixel above 0"),
        (("[splits]", "native_um = 100.0\n[splits]"), "native_um, pitch_um and patch_um are for spots"),
        (('"spaceranger"', '"her2st"'), "native_um, pitch_um, patch_um = 0, 0, 0; spots want"),
    ],
)
def test_a_wrong_card_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    _card(tmp_path, HEAD + '[[folds]]\ntest = ["a"]\n')
    text = (tmp_path / "dataset.toml").read_text()
    (tmp_path / "dataset.toml").write_text(text.replace(*change))

    with pytest.raises(DataError, match=message):
        load_dataset(str(tmp_path / "dataset.toml"))


def test_shipped_cards_are_valid_and_their_splits_fair_or_flagged() -> None:
    for name in shipped():
        dataset = load_dataset(name)
        for split_name in dataset.card.splits:
            split = load_split(dataset, split_name)
            findings = audit_split(split, {s.id: s.patient for s in dataset.card.samples})
            assert all(f.severity == "warning" for f in findings)
            assert bool(findings) == split.leaky


def test_the_demo_card_is_the_one_that_the_simulator_writes(cohort: Dataset) -> None:
    assert load_dataset("demo").card.samples == cohort.card.samples
    assert load_split(load_dataset("demo"), None).folds == load_split(cohort, None).folds


def test_close_names_are_suggested() -> None:
    with pytest.raises(MissingError, match="no data set 'dema'; did you mean demo"):
        load_dataset("dema")


def test_a_sample_card_needs_a_patient() -> None:
    with pytest.raises(TypeError):
        SampleCard(id="a", path="a")  # type: ignore[call-arg]
