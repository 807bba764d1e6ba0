"""The checks of `hdstbench doctor`, each of which says what to do."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from hdstbench.data.card import cache_root, data_root, load_dataset, shipped
from hdstbench.errors import HdstError
from hdstbench.plugins.registry import found, load_model
from hdstbench.plugins.weights import OFFLINE, find_weights
from hdstbench.sweep.device import describe

LOW_DISK_GB = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    ok: bool
    what: str
    found: str


def execute(echo: Callable[[str], None]) -> bool:
    """Print all checks; say whether all are good."""
    good = True
    for check in _checks():
        good &= check.ok
        echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.what:14}{check.found}")
    return good


def _checks() -> Iterator[Check]:
    yield Check(ok=True, what="python", found=f"{platform.python_version()}, {os.cpu_count()} cores")
    yield from _packages()
    yield _torch()
    yield _timm()
    yield from _folders()
    yield _weights()
    yield from _models()
    for name in shipped():
        try:
            dataset = load_dataset(name)
        except HdstError as error:
            yield Check(ok=False, what=f"data {name}", found=str(error))
            continue
        missing = "simulated on first use" if dataset.card.simulate else f"not there ({dataset.root})"
        there = dataset.root if dataset.root.is_dir() else missing
        yield Check(ok=True, what=f"data {name}", found=str(there))


def _packages() -> Iterator[Check]:
    names = [line.split(";")[0] for line in requires("hdstbench") or [] if "extra ==" not in line]
    for name in (_bare(line) for line in names):
        try:
            yield Check(ok=True, what="package", found=f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Check(ok=False, what="package", found=f"{name} is not installed; pip install {name}")


def _bare(requirement: str) -> str:
    return requirement.strip().split(">")[0].split("<")[0].split("=")[0].split("[")[0].strip()


def _torch() -> Check:
    return Check(ok=True, what="device", found=describe())


def _timm() -> Check:
    try:
        from hdstbench.torchkit.compat import import_timm  # noqa: PLC0415 - slow

        return Check(ok=True, what="encoders", found=f"timm {import_timm().__version__}")
    except (ImportError, RuntimeError) as error:
        return Check(ok=False, what="encoders", found=f"timm cannot be imported: {error}")


def _folders() -> Iterator[Check]:
    for what, folder in (("cache", cache_root()), ("data", data_root())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free / 1e9
        except OSError as error:
            yield Check(
                ok=False, what=what, found=f"{folder}: {error.strerror}; set HDSTBENCH_{what.upper()}"
            )
            continue
        writable = os.access(folder, os.W_OK) and free > LOW_DISK_GB
        hint = "" if writable else f"; wanted a writable folder with {LOW_DISK_GB} GB"
        yield Check(ok=writable, what=what, found=f"{folder}, {free:.0f} GB free{hint}")


def _weights() -> Check:
    try:
        weights = find_weights(OFFLINE, "pretrained")
        return Check(ok=True, what="weights", found=f"{OFFLINE} {weights.label}")
    except HdstError as error:
        return Check(ok=False, what="weights", found=str(error))


def _models() -> Iterator[Check]:
    for name in found():
        try:
            plugin = load_model(name)
            yield Check(ok=True, what="model", found=f"{name} ({plugin.kind})")
        except HdstError as error:
            yield Check(ok=False, what="model", found=str(error))
