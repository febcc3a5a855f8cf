"""From raw interactions to ordered, indexed and split events."""
