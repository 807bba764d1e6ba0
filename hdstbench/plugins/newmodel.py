"""Write a package with a new model: one that trains and passes the conformance suite as it is."""

import keyword
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from hdstbench import __version__
from hdstbench.errors import DataError
from hdstbench.plugins.registry import found

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "ci.yml.txt": ".github/workflows/tests.yml",
    "init.py.txt": "src/{package}/__init__.py",
    "config.py.txt": "src/{package}/config.py",
    "model.py.txt": "src/{package}/model.py",
    "test_model.py.txt": "tests/test_model.py",
}
"""Templates and where they go."""


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the package of a model; aside first, so that it is whole or not there.

    Args:
        name: Of the model and the distribution, such as my-model.
        folder: Where to; it must not be there yet.

    Returns:
        The files.

    Raises:
        DataError: If the name cannot be one, or is taken, or the folder is there.
    """
    package = name.replace("-", "_")
    _check_name(name, package)
    if folder.exists():
        msg = f"{folder} is there already; choose another folder with -o"
        raise DataError(msg)
    words = {
        "name": name,
        "package": package,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "version": __version__,
    }
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for source, target in FILES.items():
            text = files("hdstbench.plugins").joinpath("template", source).read_text(encoding="utf-8")
            path = part / target.format(package=package)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(text).substitute(words), encoding="utf-8")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_name(name: str, package: str) -> None:
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        msg = f"{name!r} is no name for a model; wanted lower-case words joined by hyphens, such as my-model"
        raise DataError(msg)
    if name in found() or _is_installed(name):
        msg = f"model or package {name!r} is installed already; choose another name"
        raise DataError(msg)
    taken = keyword.iskeyword(package) or package in sys.stdlib_module_names or package == "tests"
    if taken or package.startswith("hdstbench") or getattr(find_spec(package), "origin", None) is not None:
        msg = f"{name!r} would make a package {package}, which means something else in Python; choose another"
        raise DataError(msg)


def _is_installed(name: str) -> bool:
    """Whether a distribution has the name, which installing the new package would replace."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
