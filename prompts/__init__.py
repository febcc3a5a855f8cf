"""Prompt templates as files, and their rendering."""
