"""Reading feature-barcode matrices: values, chunks, and damaged files."""

import errno
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import take
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from hdstbench.data import tenx
from hdstbench.data.counts import Genes, GroupedCounts, MemoryCounts, gather, picks_groups, picks_rows
from hdstbench.errors import DataError


def write(path: Path, matrix: np.ndarray, kinds: list[str] | None = None) -> Path:
    """Write a small 10x matrix, units x features."""
    units, features = matrix.shape
    csr = sparse.csr_array(matrix)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array([f"s_008um_00000_{i:05d}-1" for i in range(units)], "S")
        group["data"], group["indices"] = csr.data.astype("i4"), csr.indices.astype("i8")
        group["indptr"], group["shape"] = csr.indptr.astype("i8"), np.array([features, units], "i4")
        group["features/id"] = np.array([f"ENSG{i}" for i in range(features)], "S")
        group["features/name"] = np.array([f"G{i % 3}" for i in range(features)], "S256")
        group["features/feature_type"] = np.array(kinds or ["Gene Expression"] * features, "S")
    return path


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 8), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_any_chunk_size_gives_the_same_counts(
    tmp_path_factory: pytest.TempPathFactory, seed: int, units: int, features: int, chunk: int
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.7, (units, features))
    counts = tenx.read_matrix(write(tmp_path_factory.mktemp("h5") / "m.h5", dense))
    rows = rng.permutation(units)[: max(1, units // 2)]
    group = rng.integers(-1, 3, units)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenx, "CHUNK_ENTRIES", chunk)
        patch.setattr(tenx, "MERGE_ENTRIES", chunk)
        found = gather(counts, {"rows": picks_rows(rows, units), "groups": picks_groups(group, 3)})
        library = counts.totals()
        grouped = GroupedCounts(counts, group, 3)
        again, sizes = take(grouped, np.array([2, 0])), grouped.totals()

    groups = np.array([dense[group == g].sum(axis=0) for g in range(3)])
    np.testing.assert_array_equal(found["rows"].toarray(), dense[rows])
    np.testing.assert_array_equal(found["groups"].toarray(), groups)
    np.testing.assert_array_equal(library, dense.sum(axis=1))
    np.testing.assert_array_equal(again.toarray(), groups[[2, 0]])
    np.testing.assert_array_equal(sizes, groups.sum(axis=1))


def test_chunks_without_a_wanted_bin_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.ones((40, 5), int)
    counts = tenx.read_matrix(write(tmp_path / "m.h5", dense))
    monkeypatch.setattr(tenx, "CHUNK_ENTRIES", 20)
    read: list[tuple[int, int]] = []
    plain = tenx.H5Counts._rows
    monkeypatch.setattr(
        tenx.H5Counts, "_rows", lambda self, g, a, b: (read.append((a, b)), plain(self, g, a, b))[1]
    )

    found = take(counts, np.array([9, 30]))

    assert read == [(8, 12), (28, 32)]
    np.testing.assert_array_equal(found.toarray(), dense[[9, 30]])


def test_attributes_of_any_kind_and_none_at_all_are_understood(tmp_path: Path) -> None:
    for value, wanted in (("spaceranger-3.0.0", "spaceranger-3.0.0"), (np.bytes_(b"x-4"), "x-4"), (None, "")):
        path = write(tmp_path / f"{wanted}.h5", np.ones((2, 2), int))
        if value is not None:
            with h5py.File(path, "a") as file:
                file.attrs["software_version"] = value

        assert tenx.read_matrix(path).software == wanted


def test_counts_in_memory_behave_like_counts_in_a_file() -> None:
    dense = np.random.default_rng(0).poisson(1, (6, 3))
    counts = MemoryCounts(sparse.csr_array(dense), Genes(ids=("a", "b", "c"), symbols=("a", "b", "c")))

    np.testing.assert_array_equal(take(counts, np.array([4, 0, 4])).toarray(), dense[[4, 0, 4]])
    np.testing.assert_array_equal(counts.totals(), dense.sum(axis=1))


def test_other_feature_types_are_left_out_and_symbols_may_repeat(tmp_path: Path) -> None:
    dense = np.arange(20).reshape(4, 5)
    kinds = ["Gene Expression", "Antibody Capture", "Gene Expression", "Gene Expression", "Antibody Capture"]

    counts = tenx.read_matrix(write(tmp_path / "m.h5", dense, kinds))

    assert counts.genes == Genes(ids=("ENSG0", "ENSG2", "ENSG3"), symbols=("G0", "G2", "G0"))
    np.testing.assert_array_equal(take(counts, np.arange(4)).toarray(), dense[:, [0, 2, 3]])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path: Path) -> None:
    path.write_text("barcode,count\n")


def _without(name: str):  # noqa: ANN202
    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[name]

    return damage


def _change(name: str, value: object):  # noqa: ANN202
    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            old = file[name][()]
            del file[name]
            file[name] = value(old)  # type: ignore[operator]

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "not a whole 10x feature-barcode matrix"),
        (_text, "not a whole 10x feature-barcode matrix"),
        (_without("matrix"), "not a whole 10x"),
        (_without("matrix/indptr"), "not a whole 10x"),
        (_without("matrix/features/id"), "not a whole 10x"),
        (_change("matrix/indptr", lambda a: a[:-1]), "offsets for 5 barcodes"),
        (_change("matrix/indptr", lambda a: a[::-1].copy()), "do not rise from 0"),
        (_change("matrix/data", lambda a: a[:-1]), "counts and"),
        (_change("matrix/barcodes", lambda a: np.array([a[0]] * len(a))), "4 repeated barcodes"),
        (_change("matrix/features/id", lambda a: np.array([a[0]] * len(a))), "unique gene ids"),
    ],
)
def test_a_damaged_matrix_is_refused(tmp_path: Path, damage, message: str) -> None:  # noqa: ANN001
    path = write(tmp_path / "m.h5", np.ones((5, 4), int))
    damage(path)

    with pytest.raises(DataError, match=message) as caught:
        tenx.read_matrix(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_feature_number_out_of_range_is_refused_when_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.h5", np.ones((5, 4), int))
    _change("matrix/indices", lambda a: a + 1)(path)
    counts = tenx.read_matrix(path)

    with pytest.raises(DataError, match="feature number 4, but only 4 features"):
        counts.totals()


@pytest.mark.parametrize(
    ("values", "message"), [(-1, "counts below 0"), (0.5, "no whole numbers; wanted raw UMI counts")]
)
def test_values_that_are_no_counts_are_refused_when_read(tmp_path: Path, values: float, message: str) -> None:
    path = write(tmp_path / "m.h5", np.ones((5, 4), int))
    _change("matrix/data", lambda a: np.full(len(a), values))(path)

    with pytest.raises(DataError, match=message):
        tenx.read_matrix(path).totals()


def test_a_missing_matrix_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        tenx.read_matrix(tmp_path / "none.h5")


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "x.h5").touch()
    monkeypatch.setattr(h5py, "File", refuse)

    with pytest.raises(DataError, match=r"x\.h5 cannot be read: permission denied"):
        tenx.read_matrix(tmp_path / "x.h5")
