"""Modules of the commands, imported on call."""
