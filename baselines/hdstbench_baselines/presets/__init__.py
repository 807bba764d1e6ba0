"""Sweeps for everybody: a smoke test, the demo, the paper's protocol and the full comparison."""
