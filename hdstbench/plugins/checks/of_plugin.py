"""Checks of what a plugin says of itself."""

import pickle
from typing import get_args

from hdstbench.plugins.checks.trial import BrokenContractError, Trial
from hdstbench.plugins.plugin import Context, Kind, Scope


def check_plugin(trial: Trial) -> None:
    """It says its paper, its licence and its departures from the authors' code."""
    plugin = trial.plugin
    for field in ("name", "paper", "licence", "notes"):
        if not getattr(plugin, field).strip():
            msg = f"{field} is empty"
            raise BrokenContractError(msg)
    for field, kind in (("kind", Kind), ("context", Context), ("scope", Scope)):
        if getattr(plugin, field) not in get_args(kind):
            msg = f"{field} is {getattr(plugin, field)!r}, wanted {', '.join(get_args(kind))}"
            raise BrokenContractError(msg)


def check_recipes(trial: Trial) -> None:
    """Recipes are frozen dataclasses that another process can be sent."""
    recipes = trial.plugin.recipes
    if trial.recipe not in recipes:
        msg = f"there is no recipe {trial.recipe!r}; there are {', '.join(recipes)}"
        raise BrokenContractError(msg)
    for name, config in recipes.items():
        params = getattr(type(config), "__dataclass_params__", None)
        if params is None or not params.frozen:
            msg = f"recipe {name!r} is a {type(config).__name__}, wanted a frozen dataclass"
            raise BrokenContractError(msg)
        if pickle.loads(pickle.dumps(config)) != config:
            msg = f"recipe {name!r} is another one after pickling"
            raise BrokenContractError(msg)
