"""Promotion of releases: guards, model comparison, verdicts, decisions."""
