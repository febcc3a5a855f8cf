"""Flows, their settings, and the command line."""
