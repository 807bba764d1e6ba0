"""MagNet: three levels of the image, cross-attention, graph attention, a head a level.

Paper: Zhu et al., MIDL 2025, arXiv:2502.21011. This is the network that the paper describes, not
the one that was released, which mixes up the nodes of its graph; departures: `PLUGIN.notes`.
"""

from hdstbench_magnet.plugin import PLUGIN

__all__ = ["PLUGIN"]
