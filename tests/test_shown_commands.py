"""Commands that pages show exist with their options; some take hours or a GPU, and no test runs them."""

import re
import shlex
from pathlib import Path

import click
import pytest

from hdstbench.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("leaderboards/**/*.md"))]
LINE = r"^(?:    |\$ )?({0} .+)$|`({0} [^`\n]+)`"


def shown(start: str) -> list[str]:
    """Commands on any page that begin so, in blocks and within the text."""
    texts = [page.read_text() for page in PAGES]
    found = [one or two for text in texts for one, two in re.findall(LINE.format(start), text, re.MULTILINE)]
    return sorted({command.rstrip("\\ ") for command in found if "COMMAND" not in command})


@pytest.mark.parametrize("line", [c for c in shown("hdstbench") if not c.startswith("hdstbench needs ")])
def test_a_command_and_its_options_exist(line: str) -> None:
    command: click.Command | None = cli
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words:
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None

    known = {name for option in command.get_params(click.Context(command)) for name in option.opts}
    asked = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert asked <= known


@pytest.mark.parametrize("line", shown("python"))
def test_a_script_and_its_options_exist(line: str) -> None:
    _, script, *words = shlex.split(line)

    text = (ROOT / script).read_text()
    assert all(f'"{word}"' in text for word in words if word.startswith("-"))
