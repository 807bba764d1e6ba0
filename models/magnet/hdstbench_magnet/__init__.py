"""MagNet: three levels of the image, cross-attention, graph attention, a head a level.

Paper: Zhu et al., MIDL 2025, arXiv:2502.21011. `PLUGIN` is the network that the paper describes,
`PUBLISHED_PLUGIN` the one that was released, which mixes up the nodes of its graph, `GENE_PCC` a variant
whose loss correlates over units; departures stand in their notes.
"""

from hdstbench_magnet.plugin import GENE_PCC, PLUGIN, PUBLISHED_PLUGIN

__all__ = ["GENE_PCC", "PLUGIN", "PUBLISHED_PLUGIN"]
