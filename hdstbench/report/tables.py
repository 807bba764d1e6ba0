"""Tables in markdown, and numbers in them."""

from collections.abc import Sequence

from hdstbench.stats.bootstrap import Interval


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def limits(interval: Interval, *, sign: bool = False) -> str:
    """Both ends of an interval, or a dash."""
    if interval.low is None or interval.high is None:
        return "–"
    low, high = (signed(end) if sign else f"{end:.3f}" for end in (interval.low, interval.high))
    return f"{low} to {high}"


def signed(value: float) -> str:
    """Three decimals with a sign, and no sign on zero."""
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text
