"""Versions and commit that a record was made with."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hdstbench import __version__

LIBRARIES = ("numpy", "scipy", "torch", "timm", "torch-geometric")


@cache
def versions() -> dict[str, str]:
    """Versions of the suite and of the libraries that compute."""
    out = {"hdstbench": __version__}
    for name in LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


@cache
def commit() -> str:
    """Commit of the checkout that the suite runs from; empty if it was installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
