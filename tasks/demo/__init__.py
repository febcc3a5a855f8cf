"""A made-up dump of two shops."""
