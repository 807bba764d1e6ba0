"""A DeepSpot-style deep set for hdstbench."""

from hdstbench_deepspot.model import PLUGIN

__all__ = ["PLUGIN"]
