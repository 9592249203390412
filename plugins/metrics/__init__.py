"""Metrics: one score a file, exact over any number of ranks."""
