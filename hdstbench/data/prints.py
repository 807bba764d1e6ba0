"""Fingerprints of sections on disk: kept with the labels, and outside their hash."""

from pathlib import Path

import numpy as np

from hdstbench.data.fingerprint import Fingerprint
from hdstbench.errors import DataError


def save_print(path: Path, found: Fingerprint) -> None:
    """Write a fingerprint."""
    np.savez_compressed(
        path,
        dark=found.dark.astype(np.float32),
        tissue=found.tissue,
        umi=found.umi.astype(np.float32),
        top=found.top.astype(np.float32),
        top_ids=np.array(found.top_ids),
        genes=np.array(list(found.bulk)),
        bulk=np.array(list(found.bulk.values()), np.int64),
    )


def load_print(path: Path, name: str) -> Fingerprint:
    """Read the fingerprint of a slide of that name.

    Raises:
        DataError: If it is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError) as error:
        msg = f"{path}: {error}; remove its folder and run again"
        raise DataError(msg) from error
    return Fingerprint(
        id=name,
        dark=arrays["dark"],
        tissue=arrays["tissue"],
        umi=arrays["umi"],
        top=arrays["top"],
        top_ids=tuple(arrays["top_ids"].tolist()),
        bulk=dict(zip(arrays["genes"].tolist(), arrays["bulk"].tolist(), strict=True)),
    )
