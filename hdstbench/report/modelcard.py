"""The page of one model, made from what its plugin says of itself."""

import textwrap
from dataclasses import fields

from hdstbench.plugins.plugin import AnyPlugin, Cost
from hdstbench.report.tables import markdown_table

SEES = {
    "unit": "the patches of the unit itself (and of the spot and region it lies in, if it uses them)",
    "block": "its sampling block: the unit and its neighbours",
    "slide": "a window of its slide or all its prepared units, as told below",
}
WIDTH = 110


def model_card(plugin: AnyPlugin) -> str:
    """Write the page as markdown."""
    parts = [
        f"# {plugin.name}",
        _facts(plugin),
        "## Departures from the authors' code" if plugin.kind != "control" else "## What it is",
        _sentences(plugin.notes),
    ]
    if plugin.kind != "control":
        parts += ["## What is proven equal", _sentences(plugin.proven or "Nothing is.")]
        parts += ["## Published numbers", _sentences(plugin.published or "None was tried.")]
    if plugin.cost:
        parts += ["## Cost", _cost(plugin.cost)]
    parts += ["## Recipes", _recipes(plugin)]
    return "\n\n".join(parts) + "\n"


def _facts(plugin: AnyPlugin) -> str:
    lines = [
        ("kind", plugin.kind),
        ("paper", plugin.paper),
        ("licence of the authors' code", plugin.licence),
        ("a prediction depends on", SEES[plugin.context]),
    ]
    return markdown_table(("", ""), lines)


def _sentences(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def _cost(cost: Cost) -> str:
    head = ("parameters", "GFLOP a unit", "MiB kept for the backward pass", "units of that step")
    line = (f"{cost.parameters:,}", f"{cost.gflop:.3g}", f"{cost.memory_mb:,.0f}", f"{cost.batch}")
    note = (
        "Official recipe, 250 genes, 8 um bins, patches of 112 px, fp32 on a CPU, measured by a script in "
        "`benchmarks/`. Features of frozen encoders are computed once a slide and are not in it."
    )
    return f"{markdown_table(head, [line])}\n\n{_sentences(note)}"


def _recipes(plugin: AnyPlugin) -> str:
    """One column a recipe, one row a setting; what all share stands below."""
    names = list(plugin.recipes)
    settings = [field.name for field in fields(plugin.recipes[names[0]])]
    values = {s: [_value(getattr(plugin.recipes[name], s)) for name in names] for s in settings}
    differ = [(s, *row) for s, row in values.items() if len(set(row)) > 1]
    same = [f"`{s}` {row[0]}" for s, row in values.items() if len(set(row)) == 1]
    shared = _sentences("The same in all: " + ", ".join(same) + ".") if same else ""
    table = markdown_table(("setting", *names), differ) if differ else "All recipes are the same."
    return "\n\n".join(part for part in (table, shared) if part)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(map(_value, value)) or "–"
    return str(value) if value != "" else "–"
