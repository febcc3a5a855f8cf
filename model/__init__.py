"""The model: torch and numpy only."""
