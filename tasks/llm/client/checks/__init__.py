"""Checks of texts and vectors that a model returns."""
