"""Features of frozen encoders, computed once for a slide and shared by models, folds and workers."""

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from hdstbench import ENGINE
from hdstbench.arrays import FloatArray, IntArray, Pixels
from hdstbench.plugins.plugin import Progress, RunContext
from hdstbench.plugins.weights import sha256_of
from hdstbench.protocol.slide import UNIT, Slide
from hdstbench.rng import seed_of
from hdstbench.torchkit.batch import to_tensor
from hdstbench.torchkit.encoders import Encoder, make_encoder
from hdstbench.torchkit.pathology import PATHOLOGY
from hdstbench.torchkit.shared import block_features

BATCH_PIXELS = 64 * 112 * 112
WAIT_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """Which features: of which level's patches, resized to `input_px` (0: as they are).

    An encoder with an input size of its own gets that one instead.

    With `grid` > 0 the feature map is pooled to grid x grid features a patch, else to one. With
    `around` > 0 each unit has features of the around x around tiles around it; `level` is then "unit".
    `mean` and `std` bring the channels of pixels in [0, 1] to other statistics than the encoder's own.
    With `shared` the units of a block share one pass over all of their pixels, see `torchkit.shared`: many
    times faster where patches overlap, other features, and of `level` "unit" and whole patches alone.
    """

    encoder: str
    level: str
    input_px: int = 0
    grid: int = 0
    around: int = 0
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: If shared features are to be of other than whole patches of units as they are.
        """
        if self.shared and (self.level, self.input_px, self.grid, self.around) != (UNIT, 0, 0, 0):
            msg = f"shared features are of whole patches of units as they are; got {self.named()}"
            raise ValueError(msg)

    def named(self) -> dict[str, object]:
        """What names a file: every field that is not its default, so that a new field renames none."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def frozen_features(slides: Sequence[Slide], spec: FeatureSpec, context: RunContext) -> list[FloatArray]:
    """Encode the patches of a level of each slide with an encoder that is never trained.

    Returns:
        float32 [M, D] a slide, or [M, grid^2, D], in the order of the level's units. With `around`,
        float16 [M, around^2, D], zeros for tiles that leave the image; mapped from the disk where a
        view holds all units in their order.
    """
    paths = {slide.id: _path(slide, spec, context) for slide in slides}
    waiting = list(slides)
    while waiting:
        slide = waiting.pop(0)
        path = paths[slide.id]
        if path.is_file():
            continue
        with _claim(path) as ours:
            if ours and not path.is_file():
                _compute(slide, spec, context, path)
            elif not ours:  # another worker is at it: do others first
                waiting.append(slide)
                time.sleep(WAIT_S)
    return [_rows(np.load(paths[s.id], mmap_mode="r"), s.rows(spec.level), spec) for s in slides]


def _rows(values: FloatArray, rows: IntArray, spec: FeatureSpec) -> FloatArray:
    everything = len(rows) == len(values) and bool((rows == np.arange(len(rows))).all())
    return values if spec.around and everything else values[rows]


def _path(slide: Slide, spec: FeatureSpec, context: RunContext) -> Path:
    weights = sha256_of(context.weights) if context.weights else "none"
    if spec.encoder in PATHOLOGY:  # whatever size is asked for, it gets its own
        spec = replace(spec, input_px=0)
    seed = 0 if context.weights else context.seed
    made_by = [ENGINE, version("torch"), version("timm")]
    key = [made_by, slide.key, spec.named(), weights, seed, context.device, context.precision]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    return context.cache / f"{name}.npy"


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Say whether this process may make the file; a killed owner's claim ends with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _compute(slide: Slide, spec: FeatureSpec, context: RunContext, path: Path) -> None:
    with torch.random.fork_rng():  # whoever trains must not notice whether features were there already
        torch.manual_seed(seed_of("frozen", spec.encoder, context.seed))
        encoder = make_encoder(spec.encoder, context.weights)
    if spec.mean and spec.std:
        encoder.standardise(torch.tensor(spec.mean), torch.tensor(spec.std))
    encoder = encoder.to(context.device).eval()
    part = path.with_suffix(".part")
    write = _write_shared if spec.shared else _write_each
    write(encoder, slide.whole(), spec, context, part)
    part.rename(path)


def _write_shared(encoder: Encoder, whole: Slide, spec: FeatureSpec, context: RunContext, part: Path) -> None:
    """Encode a block at a time."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(whole), encoder.width)}
    with part.open("wb") as file, _inference(context):
        np.lib.format.write_array_header_1_0(file, header)
        start, done = file.tell(), 0
        for units, values in block_features(encoder, whole, context.device):
            for unit, row in zip(units.tolist(), values.astype("<f4"), strict=True):
                file.seek(start + unit * row.nbytes)
                file.write(row.tobytes())
            done += len(units)
            context.report(Progress(share=done / len(whole), stage=f"features {whole.id}"))


def _write_each(encoder: Encoder, whole: Slide, spec: FeatureSpec, context: RunContext, part: Path) -> None:
    """Encode some patches at a time, each on its own."""
    total = whole.size(spec.level)
    side = encoder.input_px or spec.input_px or whole.patch_px[spec.level]
    step = max(1, BATCH_PIXELS // (side * max(spec.around, 1)) ** 2)
    with part.open("wb") as file:
        for start in range(0, total, step):
            index = np.arange(start, min(start + step, total))
            encode = _encode_around if spec.around else _encode
            values = encode(encoder, whole, index, spec, context)
            if start == 0:
                shape = (total, *values.shape[1:])
                header = {"descr": values.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(values.tobytes())
            context.report(Progress(share=(start + len(index)) / total, stage=f"features {whole.id}"))


@contextmanager
def _inference(context: RunContext) -> Iterator[None]:
    """Without gradients, in the cell's precision."""
    bf16 = context.precision == "bf16"
    with torch.inference_mode(), torch.autocast(context.device, torch.bfloat16, enabled=bf16):
        yield


def _encode(
    encoder: Encoder, slide: Slide, index: IntArray, spec: FeatureSpec, context: RunContext
) -> FloatArray:
    return _apply(encoder, slide.patches(spec.level, index), spec, context)


def _encode_around(
    encoder: Encoder, slide: Slide, index: IntArray, spec: FeatureSpec, context: RunContext
) -> FloatArray:
    inside = slide.tiles_inside(index, spec.around)
    out = np.zeros((*inside.shape, encoder.width), np.float16)
    out[inside] = _apply(encoder, slide.tiles_around(index, spec.around)[inside], spec, context)
    return out


def _apply(encoder: Encoder, pixels: Pixels, spec: FeatureSpec, context: RunContext) -> FloatArray:
    patches = to_tensor(pixels, context.device, encoder.input_px or spec.input_px)
    with _inference(context):
        out = encoder.grid(patches, spec.grid) if spec.grid else encoder(patches)
    return np.asarray(out.float().cpu().numpy())
