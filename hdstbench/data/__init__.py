"""Read files of any layout, and prepare them once for every model."""
