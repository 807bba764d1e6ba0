"""Simulate a cohort and write it as real Space Ranger output."""
