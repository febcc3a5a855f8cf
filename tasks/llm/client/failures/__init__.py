"""What of a failed request is repeated, and whose fault it is."""
