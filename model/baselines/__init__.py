"""Baselines: counts, neighbours, factors, text bridge."""
