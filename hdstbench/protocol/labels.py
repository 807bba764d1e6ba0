"""What a hidden slide does not have: counts, library sizes and targets of the panel."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse

from hdstbench.arrays import CSR, BoolArray, FloatArray, IntArray
from hdstbench.data.prepared import load_arrays
from hdstbench.errors import DataError
from hdstbench.protocol.smoothing import smoothed
from hdstbench.protocol.target import Target

UNIT = "unit"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of the units of one view; G panel genes in the view's order."""

    _folder: Path = field(repr=False)
    _columns: IntArray = field(repr=False)
    _rows: Mapping[str, IntArray] = field(repr=False)
    _target: Target = field(repr=False)
    _grid: IntArray | None = field(default=None, repr=False)
    _coarse: dict[str, tuple[FloatArray, BoolArray]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        folder: Path,
        genes: tuple[str, ...],
        target: Target,
        rows: Mapping[str, IntArray],
        grid: IntArray | None = None,
    ) -> "Labels":
        """Read the labels of a prepared slide.

        Args:
            folder: The slide's folder of labels.
            genes: Ids of the panel.
            target: The transform on this slide.
            rows: Units of each level.
            grid: Row and column of every prepared unit of the slide; a smoothed target wants it.

        Raises:
            DataError: If the slide's table lacks a gene.
        """
        known = {name: i for i, name in enumerate(load_arrays(folder / "slide.npz")["gene_ids"].tolist())}
        missing = [gene for gene in genes if gene not in known]
        if missing:
            msg = f"{folder.parent.name} lacks {len(missing)} genes of the panel, such as {missing[0]}"
            raise DataError(msg)
        columns = np.array([known[gene] for gene in genes], np.int64)
        return cls(_folder=folder, _columns=columns, _rows=rows, _target=target, _grid=grid)

    @staticmethod
    def read_counts(folder: Path, level: str) -> tuple[CSR, IntArray]:
        """Counts over all genes [M, genes] and library sizes [M] of a level."""
        arrays = load_arrays(folder / f"{level}.npz")
        genes = len(load_arrays(folder / "slide.npz")["gene_ids"])
        shape = (len(arrays["library"]), genes)
        matrix = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        return matrix, arrays["library"]

    def take(self, rows: Mapping[str, IntArray]) -> "Labels":
        """Labels of some of these rows.

        Raises:
            DataError: If a row is none of them: a view never leads to labels of other units.
        """
        for level, wanted in rows.items():
            if not np.isin(wanted, self._rows[level]).all():
                msg = (
                    f"labels of this view hold {len(self._rows[level])} {level}s, and not all that are wanted"
                )
                raise DataError(msg)
        return replace(self, _rows=rows, _coarse={})

    @cached_property
    def library(self) -> IntArray:
        """Counts over all genes of each unit, int64 [N]."""
        return np.asarray(load_arrays(self._folder / f"{UNIT}.npz")["library"][self._rows[UNIT]])

    def counts(self, index: IntArray | None = None) -> CSR:
        """Raw counts of the panel, int32 [N, G]."""
        matrix, _ = self._units
        return matrix.copy() if index is None else sparse.csr_array(matrix[index])

    def target(self, index: IntArray | None = None) -> FloatArray:
        """Targets of the units, float32 [N, G]."""
        return self._targets if index is None else self._targets[index]

    def coarse(self, level: str) -> tuple[FloatArray, BoolArray]:
        """Targets of a coarser level, float32 [M, G], and which units may be used as such, [M].

        They are never smoothed: a spot or region is a sum over its units already.
        """
        if level not in self._coarse:
            matrix, library = self._read(level, self._rows[level])
            valid = load_arrays(self._folder / f"{level}.npz")["target"][self._rows[level]]
            values = self._target.plain().from_counts(matrix.toarray(), library)
            self._coarse[level] = (values, np.asarray(valid & (library > 0)))
            for array in self._coarse[level]:
                array.setflags(write=False)
        return self._coarse[level]

    def expected(self) -> FloatArray | None:
        """Expected share of each gene in each unit of a simulated slide, [N, G]; None elsewhere.

        A gene without a pattern has its share of the slide everywhere. For scoring only.
        """
        path = self._folder / "expected.npz"
        if not path.is_file():
            return None
        known, slide = load_arrays(path), load_arrays(self._folder / "slide.npz")
        share = slide["pseudobulk"][self._columns] / max(slide["pseudobulk"].sum(), 1)
        out = np.tile(share, (len(self._rows[UNIT]), 1))
        place = {name: i for i, name in enumerate(known["gene_ids"].tolist())}
        names = slide["gene_ids"][self._columns].tolist()
        here = [(j, place[name]) for j, name in enumerate(names) if name in place]
        row = np.searchsorted(known["rows"], self._rows[UNIT])
        out[:, [j for j, _ in here]] = known["share"][row][:, [i for _, i in here]]
        return out

    @cached_property
    def _targets(self) -> FloatArray:
        matrix, library = self._units
        values = self._target.plain().from_counts(matrix.toarray(), library)
        if self._target.smooths:
            if self._grid is None:
                msg = f"target {self._target.name} wants the places of a slide's units"
                raise DataError(msg)
            values = smoothed(self._grid, self._rows[UNIT], self._values)
        values.setflags(write=False)
        return values

    def _values(self, rows: IntArray) -> FloatArray:
        """Targets of prepared units, smoothing aside, [M, G]."""
        matrix, library = self._read(UNIT, rows)
        return self._target.plain().from_counts(matrix.toarray(), library)

    @cached_property
    def _units(self) -> tuple[CSR, IntArray]:
        """Counts of the panel and library sizes of the units."""
        return self._read(UNIT, self._rows[UNIT])

    def _read(self, level: str, rows: IntArray) -> tuple[CSR, IntArray]:
        matrix, library = self.read_counts(self._folder, level)
        return sparse.csr_array(matrix[rows][:, self._columns]), library[rows]
