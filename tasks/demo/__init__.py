"""Generated example data of two shops."""
