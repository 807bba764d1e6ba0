"""Pure functions that score predictions, in float64."""
