"""Experiment tracking outside the store."""
