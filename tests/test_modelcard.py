"""The page of every model is what its plugin says of itself, no more and no less."""

from dataclasses import replace
from pathlib import Path

import pytest

from hdstbench.plugins.plugin import Cost
from hdstbench.plugins.registry import found, load_model
from hdstbench.report.modelcard import model_card

PAGES = Path(__file__).parents[1] / "docs" / "models"
OURS = sorted(name for name, point in found().items() if point.dist and point.dist.name == "hdstbench")
MODELS = [name for name in OURS if load_model(name).kind != "control"]


@pytest.mark.parametrize("name", OURS)
def test_the_committed_page_is_the_generated_one(name: str) -> None:
    """Made by `hdstbench ls model NAME --card > docs/models/NAME.md`."""
    assert (PAGES / f"{name}.md").read_text() == model_card(load_model(name))


def test_there_is_no_page_of_a_model_that_is_gone() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == OURS


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_is_proven_what_it_costs_and_whether_numbers_were_reproduced(name: str) -> None:
    plugin = load_model(name)

    assert len(plugin.proven) > 40
    assert len(plugin.published) > 40
    assert plugin.cost is not None
    assert plugin.cost.parameters > 1e6
    assert plugin.cost.gflop > 0.01


def test_a_page_shows_where_recipes_differ_and_what_they_share() -> None:
    plugin = load_model("ridge")
    changed = replace(plugin, cost=Cost(parameters=1_234_567, gflop=0.5, memory_mb=12, batch=3))

    page = model_card(changed)

    assert "| encoder | efficientnet-lite0 |" in page
    assert "1,234,567" in page
    assert "The same in all: " in page
    assert plugin.notes.split()[0] in page
