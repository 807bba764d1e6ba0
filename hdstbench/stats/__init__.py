"""Intervals and comparisons, computed from block moments."""
