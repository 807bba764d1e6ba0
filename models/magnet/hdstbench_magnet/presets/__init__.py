"""Sweeps of MagNet for `hdstbench run --preset`."""
