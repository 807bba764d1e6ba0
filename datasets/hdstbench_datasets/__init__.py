"""Cards, splits and panels of the data sets that ship with hdstbench (data, not code)."""
