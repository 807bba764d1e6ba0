"""HEST-Bench tasks become data sets with the right patch and counts for every spot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from helpers import take, type_command
from spots import (
    GENES,
    NOTHING,
    Array,
    bright,
    imported,
    make,
    row,
    sample_of,
    slides,
    write_hest,
    write_patches,
    write_task,
)

from hdstbench.cli import import_job
from hdstbench.data.hestbench import read as read_bench
from hdstbench.data.prepare import prepare_slide
from hdstbench.errors import DataError, HdstError
from hdstbench.protocol.panel import read_panel
from hdstbench.protocol.slide import all_counts
from hdstbench.protocol.splits import load_split
from hdstbench.sweep.options import Options
from hdstbench.sweep.plan import plan_job

FOLDS = [(["B", "C"], ["A"]), (["A"], ["B", "C"])]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "TASK", slides(), FOLDS)


def test_a_task_becomes_a_data_set_with_its_folds_and_genes(task: Path, tmp_path: Path) -> None:
    dataset = imported(task, tmp_path / "bench")

    card, split = dataset.card, load_split(dataset, None)
    assert (card.reader, card.mpp, card.patch_um, card.pitch_um) == ("hest-bench", 0.5, 112, 100)
    assert [(fold.train, fold.test) for fold in split.folds] == [
        (("B", "C"), ("A",)),
        (("A",), ("B", "C")),
    ]
    assert card.panel == "var_50genes"
    assert read_panel(dataset, card.panel) == ("BRIGHT", "NOISE", "GENE1", "GENE2")
    assert "not chosen on training slides alone" in card.notes


def test_patches_are_joined_to_counts_by_barcode(task: Path, tmp_path: Path) -> None:
    dataset = imported(task, tmp_path / "bench")

    for made in slides():
        sample = sample_of(dataset, made.name)
        assert sample.patches is not None
        assert sample.image is None
        assert 12 <= len(sample.counts) == len(sample.patches) == len(sample.grid) <= 13
        middle = sample.patches[:, 110:114, 110:114, 0].mean(axis=(1, 2))
        assert np.abs(middle - bright(sample)).max() < 6
        assert sample.counts.genes.ids == GENES


def test_positions_of_patches_are_in_pixels_of_the_patches(task: Path, tmp_path: Path) -> None:
    sample = sample_of(imported(task, tmp_path / "bench"), "B")

    made = slides()[1]
    place = {
        tuple(p): xy
        for p, xy in zip(
            made.adata.obs[["array_row", "array_col"]].to_numpy().tolist(),
            made.adata.obsm["spatial"],
            strict=True,
        )
    }
    wanted_um = np.array([place[tuple(p)] for p in sample.grid.tolist()]) * made.array.mpp
    np.testing.assert_allclose(sample.xy_px * sample.mpp, wanted_um, rtol=0.02)
    np.testing.assert_allclose(sample.to_px(sample.grid[:, ::-1].astype(float)), sample.xy_px, atol=1e-3)


def test_without_positions_the_corners_of_patches_stand_in(task: Path, tmp_path: Path) -> None:
    dataset = imported(task, tmp_path / "bench")
    before = sample_of(dataset, "A")
    made = slides()[0]
    del made.adata.obsm["spatial"]
    made.adata.write_h5ad(task / "adata/A.h5ad")

    sample = sample_of(dataset, "A")

    np.testing.assert_allclose(sample.xy_px * sample.mpp, before.xy_px * before.mpp, rtol=0.02)
    np.testing.assert_array_equal(sample.grid, before.grid)


def test_prepared_units_have_the_patches_of_the_task(task: Path, tmp_path: Path) -> None:
    dataset = imported(task, tmp_path / "bench")
    card = dataset.card.samples[0]

    folder = prepare_slide(dataset, card, dataset.card.resolution("55um"))

    sample, blocks = sample_of(dataset, card.id), np.load(folder / "pixels" / "blocks.npy")
    assert sample.patches is not None
    order = np.lexsort((sample.grid[:, 1], sample.grid[:, 0]))
    np.testing.assert_array_equal(blocks, sample.patches[order])
    counts = take(sample.counts, order).toarray()
    np.testing.assert_array_equal(all_counts(folder)[1].toarray(), counts)


def test_patients_of_a_task_are_looked_up_and_leaking_folds_are_left_for_the_run_to_refuse(
    task: Path, tmp_path: Path
) -> None:
    rows = [row("A", "Patient 1"), row("B", "Patient 1"), row("C", "Patient 2")]
    pd.DataFrame(rows).to_csv(task.parent / "HEST_v1_1_0.csv", index=False, encoding="utf-8-sig")

    dataset = imported(task, tmp_path / "bench")

    assert [s.patient for s in dataset.card.samples] == ["Patient 1", "Patient 1", "Patient 2"]
    with pytest.raises(DataError, match="fold 0: patient Patient 1 is in training and in test"):
        plan_job(dataset, "55um", Options())


def csv(name: str, content: str) -> Callable[[Path], object]:
    return lambda task: (task / "splits" / name).write_text(content)


def genes(content: str) -> Callable[[Path], object]:
    return lambda task: (task / "var_50genes.json").write_text(content)


def drop(name: str) -> Callable[[Path], object]:
    return lambda task: (task / name).unlink()


def other_pitch(task: Path) -> None:
    made = make("A", Array(side=4, pitch_um=128))
    made.adata.write_h5ad(task / "adata/A.h5ad")
    write_patches(task / "patches/A.h5", made)


def patches(**change: Any) -> Callable[[Path], object]:  # noqa: ANN401 - arrays of a file
    """Write the patches of A again with other content; functions are given what would be there."""

    def harm(task: Path) -> None:
        with h5py.File(task / "patches/A.h5") as file:
            known = {name: file[name][()] for name in file}
        new = {name: value(known[name]) if callable(value) else value for name, value in change.items()}
        write_patches(task / "patches/A.h5", slides()[0], **new)

    return harm


def other_names(names: np.ndarray) -> np.ndarray:
    return np.char.replace(names, b"SPOT", b"BIN")


HEAD = "sample_id,patches_path,expr_path\n"
BOTH = [
    (
        patches(barcode=other_names),
        r"13 of 13 barcodes, such as BIN\d+-1, are not in .*A.h5ad, which has SPOT",
    ),
    (patches(barcode=lambda b: np.roll(b, 1)), r"spots lie up to \d+ px off the middle of their patches"),
    (patches(barcode=lambda b: np.concatenate([b[:1], b[:-1]])), r"A.h5 repeats the barcode SPOT\d+-1"),
    (patches(barcode=None), "A.h5 is not a whole file of patches .*no barcode among"),
    (patches(img=None), "A.h5 is not a whole file of patches .*no img among"),
    (
        patches(img=lambda p: p.astype(np.float32)),
        r"img is float32 \(13, 224, 224, 3\) for 13 .* wanted uint8",
    ),
    (patches(img=lambda p: p[:5]), r"img is uint8 \(5, 224, 224, 3\) for 13 barcodes"),
    (patches(coords=lambda c: c[:, :1]), r"coords is \(13, 1\) for 13 barcodes; wanted \(N, 2\)"),
    (lambda task: (task / "patches/A.h5").write_text("x"), "A.h5 is not a whole file of patches"),
    (lambda task: (task / "adata/A.h5ad").write_text("x"), "A.h5ad is not a whole .h5ad"),
]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        *BOTH,
        (drop("splits/test_0.csv"), "test_0.csv is not there; wanted train_<i>.csv"),
        (drop("splits/train_1.csv"), "train_1.csv is not there; wanted train_<i>.csv and test_<i>.csv"),
        (csv("train_0.csv", ""), "train_0.csv is not a whole table"),
        (
            csv("train_0.csv", "id\nA\n"),
            "train_0.csv has 1 rows of id; wanted some, of sample_id, patches_path",
        ),
        (csv("train_0.csv", HEAD), "train_0.csv has 0 rows of sample_id"),
        (
            csv("train_0.csv", HEAD + "D,patches/D.h5,adata/D.h5ad\n"),
            "train_0.csv names the sample D, but .*patches/D.h5 is not there",
        ),
        (
            csv("train_1.csv", HEAD + "A,patches/B.h5,adata/B.h5ad\n"),
            "names patches/B.h5 and adata/B.h5ad for A, another table names other files",
        ),
        (drop("adata/C.h5ad"), "names the sample C, but .*adata/C.h5ad is not there"),
        (drop("var_50genes.json"), "var_50genes.json is no list of genes"),
        (genes("{"), "var_50genes.json is no list of genes"),
        (genes('{"names": []}'), "var_50genes.json is no list of genes .*'genes'"),
        (genes('{"genes": ["A", "A"]}'), "lists 2 genes, 1 of them different; wanted each once"),
        (other_pitch, "spots of A lie 12[5-9].. um apart, others 100; wanted one kind"),
    ],
)
def test_a_damaged_task_is_refused_with_one_line(
    task: Path, tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    harm(task)

    with pytest.raises(HdstError, match=message) as caught:
        import_job.execute(str(task), str(tmp_path / "bench"), NOTHING)

    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("bench*"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        *BOTH,
        (drop("patches/A.h5"), "A.h5 is not there; wanted adata/<id>.h5ad and patches/<id>.h5"),
        (other_pitch, "the size of patches in A.h5 says .* pitch_um = 100; mend"),
    ],
)
def test_a_task_that_went_bad_after_the_import_is_refused(
    task: Path, tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    dataset = imported(task, tmp_path / "bench")
    harm(task)

    with pytest.raises(HdstError, match=message) as caught:
        sample_of(dataset, "A")

    assert "\n" not in str(caught.value)


def test_patches_cannot_be_shifted(task: Path, tmp_path: Path) -> None:
    dataset = imported(task, tmp_path / "bench")
    card = replace(dataset.card.samples[0], shift_um=(1.0, 0.0))

    with pytest.raises(DataError, match="shift_um cannot move patches that were cut already"):
        read_bench(dataset, card, dataset.card.resolution("55um"))


def test_both_kinds_run_from_the_import_to_the_table(tmp_path: Path) -> None:
    made = slides(7)
    write_hest(tmp_path / "hest", made, [row(name, f"Patient {name}") for name in "ABC"])
    write_task(tmp_path / "TASK", made, [(["B", "C"], ["A"])])
    for source, out in (("hest", "one"), ("TASK", "two")):
        done = type_command("data", "import", source, "-o", out, cwd=tmp_path, cache=tmp_path / "cache")
        assert done.returncode == 0, done.stderr
        assert f"dataset: {out}/dataset.toml" in done.stdout

    words = "run -m mean,ridge -d one/dataset.toml,two/dataset.toml -r 55um --recipe tiny --folds 0"
    done = type_command(*words.split(), cwd=tmp_path, cache=tmp_path / "cache")

    assert done.returncode == 0, done.stderr + done.stdout
    for name, gene in (("one", "ENSG0000"), ("two", "BRIGHT")):
        assert (tmp_path / f"runs/default/{name}-55um.md").is_file()
        path = next((tmp_path / f"runs/default/{name}/55um/ridge").rglob("per_gene.parquet"))
        pcc = pd.read_parquet(path).set_index("gene")["pcc"]
        assert pcc[gene] > 0.4
