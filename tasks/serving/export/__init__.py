"""Recommendations and models as files for other systems."""
