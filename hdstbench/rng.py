"""Random streams by name, so that every draw of the suite can be made again."""

import hashlib

import numpy as np


def stream(*names: str | int) -> np.random.Generator:
    """Return the generator that belongs to these names.

    Streams of different names are independent; the order of calls does not matter.
    """
    return np.random.Generator(np.random.PCG64(_number(*names)))


def seed_of(*names: str | int) -> int:
    """Return a seed in [0, 2^31) for libraries that take a number."""
    return _number(*names) % 2**31


def _number(*names: str | int) -> int:
    text = "/".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
