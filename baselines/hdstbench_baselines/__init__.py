"""Baselines of the benchmark: published models and controls."""
