"""Commands that run flows and trainings."""
