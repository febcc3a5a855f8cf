"""Location and opening of input files."""
