"""A benchmark of models that predict the gene expression of Visium HD bins from H&E images."""

__version__ = "0.1.0"

ENGINE = 2
"""Raised by hand whenever the harness itself changes a prediction; part of every cell's key."""
