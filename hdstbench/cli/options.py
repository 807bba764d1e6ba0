"""Options that commands share, and lists on the command line."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Words(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of click
    """A list of words, separated by commas."""

    name = "name,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split at commas; empty parts are errors."""
        words = tuple(word.strip() for word in str(value).split(","))
        if not all(words):
            self.fail(f"{value!r} has an empty part", param, ctx)
        return words


class Numbers(Words):
    """A list of whole numbers from 0, separated by commas."""

    name = "n,..."

    def convert(  # type: ignore[override]
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Split at commas; what is no number is an error."""
        words = super().convert(value, param, ctx)
        if not all(word.isdecimal() for word in words):
            self.fail(f"{value!r} is no list of numbers such as 0,1,2", param, ctx)
        return tuple(int(word) for word in words)


def verbose(command: F) -> F:
    """Add -v, which `main` looks for when something fails."""
    option = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, help="Show tracebacks of errors."
    )
    return option(command)
