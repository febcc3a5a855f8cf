"""Which model is served: healthy lists, rematches, verdicts, the history of releases."""
