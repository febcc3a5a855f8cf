"""The facts of a report, with no formatting."""
