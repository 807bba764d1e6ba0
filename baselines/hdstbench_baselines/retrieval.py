"""A bank of training units, and the exact search for the ones nearest to a query.

Units are numbered slide by slide, in the order of training, and within a slide as they stand. The
nearest comes first; of units at exactly the same distance the smaller number does, whatever the device
and however the work is cut: units with the same row share one distance, which is taken in float64.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hdstbench.arrays import FloatArray, IntArray
from hdstbench.protocol.slide import Slide

Metric = Literal["euclidean", "cosine"]
CELLS = 2**24
"""Similarities of one chunk, in float32."""
PIECE = 4096
"""Pairs whose distance is taken at once."""
UNIT = 2.0**-24
"""Rounding error of a product of float32; TF32 would leave hundreds of times more to look at exactly."""
GPU_NUMBERS = 2**25
"""Numbers of the rows whose distance a GPU takes at once."""


@dataclass(frozen=True, slots=True)
class Source:
    """A training slide and how many units of it are in a bank."""

    slide: str
    patient: str
    units: int


def one_source(rows: Tensor) -> list[Source]:
    """Name units whose slides are not known any more: they may all be retrieved in a test."""
    return [Source("", "", len(rows))]


def sources_of(slides: Sequence[Slide]) -> list[Source]:
    """Name the slides that a bank is made of."""
    return [Source(slide.id, slide.patient, len(slide)) for slide in slides]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What may be retrieved: U distinct rows, and the units that have them.

    Attributes:
        rows: float32 [U, D].
        centred: The same less the bank's mean, float32 [U, D].
        half: Half their squared norms, float32 [U].
        units: Numbers of the units of each row, ascending; of one row at most as many as are wanted.
        start: Where each row's units begin, [U + 1].
        count: Units that may be retrieved, twins that are never reached among them.
    """

    rows: Tensor
    centred: Tensor
    half: Tensor
    units: IntArray
    start: IntArray
    count: int


class Bank:
    """R training units by a row of D features each.

    Args:
        rows: Features or embeddings, float32 [R, D], on the device that is to search.
        sources: The slides they are from, in order.
        metric: `cosine` compares rows of unit length.
        cells: Similarities of one chunk; bounds the memory, changes no result.
        measured: Rows are as another bank of this metric holds them.

    Attributes:
        rows: As given, or of unit length, float32 [R, D].
    """

    def __init__(
        self,
        rows: Tensor,
        sources: Sequence[Source],
        metric: Metric = "euclidean",
        cells: int = CELLS,
        *,
        measured: bool = False,
    ) -> None:
        if len(rows) != sum(source.units for source in sources):
            msg = f"got {len(rows)} rows for {sum(source.units for source in sources)} units"
            raise ValueError(msg)
        self.sources, self.metric, self.cells = tuple(sources), metric, cells
        self.rows = rows if measured else self._measured(rows)
        self._centre = self.rows.double().mean(dim=0).float()
        self._centred = self.rows - self._centre
        self._twin = _first_of_equals(self.rows)
        self._last: tuple[tuple[bool, ...], int, _Candidates] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def allowed(self, slide: str) -> IntArray:
        """Numbers of the units that a unit of a slide may retrieve.

        Not those of its own patient; where all are, not those of its own slide; where all are, any.
        For a slide that is not in the bank: any.
        """
        return self._numbers(self._allowed(slide))

    def nearest(self, queries: Tensor, slide: str | None, k: int) -> IntArray:
        """Numbers of the k units nearest to each query, or of all if there are fewer, [N, k].

        Args:
            queries: Features of units of one slide, [N, D], on any device.
            slide: Which slide, in training and validation; None in a test, where any unit may be retrieved.
            k: How many.

        Raises:
            ValueError: If a query is not finite.
        """
        if not torch.isfinite(queries).all():
            msg = f"queries of {slide} must be finite"
            raise ValueError(msg)
        allowed = (True,) * len(self.sources) if slide is None else self._allowed(slide)
        candidates = self._candidates(allowed, k)
        k = min(k, candidates.count)
        if not len(queries):
            return np.zeros((0, k), np.int64)
        step, parts = max(1, self.cells // len(candidates.rows)), []
        with torch.no_grad(), torch.autocast(self.rows.device.type, enabled=False), _full_precision():
            for chunk in queries.split(step):
                rows = self._measured(chunk.to(self.rows.device))
                parts.append(self._search(rows, candidates, k))
        return np.concatenate(parts)

    def _measured(self, rows: Tensor) -> Tensor:
        """Rows whose Euclidean distance is in the order of the metric, float32."""
        if self.metric == "cosine":
            rows = functional.normalize(rows.double(), dim=1)
        return rows.float() + 0.0  # -0 would make twins differ

    def _allowed(self, slide: str) -> tuple[bool, ...]:
        """Which sources a unit of a slide may retrieve from."""
        own = [source.slide == slide for source in self.sources]
        patients = {source.patient for source in self.sources if source.slide == slide}
        related = [source.patient in patients for source in self.sources]
        for excluded in (related, own):
            allowed = tuple(not out for out in excluded)
            if len(self._numbers(allowed)):
                return allowed
        return (True,) * len(own)

    def _numbers(self, allowed: tuple[bool, ...]) -> IntArray:
        return np.flatnonzero(np.repeat(allowed, [source.units for source in self.sources]))

    def _candidates(self, allowed: tuple[bool, ...], k: int) -> _Candidates:
        """Prepare what may be retrieved; the last is kept, since a slide asks many times."""
        if self._last is None or self._last[:2] != (allowed, k):
            self._last = None
            self._last = (allowed, k, self._prepare(self._numbers(allowed), k))
        return self._last[2]

    def _prepare(self, allowed: IntArray, k: int) -> _Candidates:
        twin = self._twin[allowed]
        order = np.argsort(twin, kind="stable")
        units, twin = allowed[order], twin[order]
        first = np.flatnonzero(np.diff(twin, prepend=-1))
        place = np.arange(len(units)) - np.repeat(first, np.diff(first, append=len(units)))
        kept = np.flatnonzero(place < k)
        start = np.append(np.searchsorted(kept, first), len(kept))
        rows, centred = self.rows, self._centred
        if len(first) < len(self):
            chosen = torch.from_numpy(units[first]).to(rows.device)
            rows, centred = rows[chosen], centred[chosen]
        half = 0.5 * centred.double().square().sum(dim=1)
        return _Candidates(rows, centred, half.float(), units[kept], start, len(allowed))

    def _search(self, queries: Tensor, candidates: _Candidates, k: int) -> IntArray:
        """Find what may be among the nearest by products in float32, then order that exactly."""
        near = queries - self._centre
        score = torch.addmm(-candidates.half, near, candidates.centred.T)  # falls with the distance
        reached = score.topk(min(k, score.shape[1]), sorted=True).values[:, -1:]
        longest = (2 * candidates.half.max()).sqrt()
        error = UNIT * (near.shape[1] + 8)
        slack = 2 * error * longest * (near.norm(dim=1, keepdim=True) + longest)
        query, row = (score >= reached - slack).nonzero(as_tuple=True)
        distance = _distances(queries, candidates.rows, query, row)
        return _ordered(query.cpu().numpy(), row.cpu().numpy(), distance.cpu().numpy(), candidates, k)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _distances(queries: Tensor, rows: Tensor, query: Tensor, row: Tensor) -> Tensor:
    """Squared distances of pairs that come by query, float64 [P]; one query after another fits caches."""
    if rows.is_cuda:  # many at once, since each call costs more than its work
        step = max(1, GPU_NUMBERS // rows.shape[1])
        pairs = zip(row.split(step), query.split(step), strict=True)
        return torch.cat([(rows[a].double() - queries[b].double()).square_().sum(dim=1) for a, b in pairs])
    many = torch.bincount(query, minlength=len(queries)).tolist()
    exact = queries.double()
    parts = [
        (rows[piece].double() - exact[i]).square_().sum(dim=1)
        for i, chosen in enumerate(row.split(many))
        for piece in chosen.split(PIECE)
    ]
    return torch.cat(parts)


def _ordered(query: IntArray, row: IntArray, distance: FloatArray, of: _Candidates, k: int) -> IntArray:
    """The k first units of each query by distance, then number; pairs come by query, [B, k]."""
    many = of.start[row + 1] - of.start[row]
    pair = np.repeat(np.arange(len(row)), many)
    place = np.arange(len(pair)) - np.repeat(np.cumsum(many) - many, many)
    unit = of.units[of.start[row][pair] + place]
    order = np.lexsort((unit, distance[pair], query[pair]))
    query = query[pair]  # as ordered: queries stay in their order
    begin = np.flatnonzero(np.diff(query, prepend=-1))
    return unit[order][begin[:, None] + np.arange(k)]


def _first_of_equals(rows: Tensor) -> IntArray:
    """Number of the first row that is the same, bit for bit, [R]."""
    first: dict[bytes, int] = {}
    flat = np.ascontiguousarray(rows.cpu().numpy())
    digests = (hashlib.blake2b(row.data, digest_size=16).digest() for row in flat)
    return np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], np.int64)
