"""Facts of a report, without formatting."""
