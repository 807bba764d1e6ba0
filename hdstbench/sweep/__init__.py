"""Turn a plan into cells, run them, keep their records."""
