"""From interactions as they are written to ordered, numbered and split events."""
