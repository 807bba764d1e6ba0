"""Every message that docs/faq.md quotes is one of the code's."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("hdstbench", "baselines", "models")
QUOTED = re.findall(r"\*\*`(.+?)`\*\*", (ROOT / "docs" / "faq.md").read_text())


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Texts of the code, with three dots where a value is put in."""
    found = []
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        found += [_text(node) for node in ast.walk(ast.parse(path.read_text()))]
    return [*(re.sub("…+", "…", text) for text in found if text), (ROOT / "Makefile").read_text()]


def _text(node: ast.AST) -> str:
    """A text or f-string, or a sum of such; empty if it is none."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) or "…" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (_text(left) or "…") + (_text(right) or "…")
        case _:
            return ""


def test_the_page_quotes_many_messages_once_each() -> None:
    assert len(QUOTED) >= 40
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_message_is_in_the_code(quoted: str, messages: list[str]) -> None:
    assert any(quoted in text for text in messages)
