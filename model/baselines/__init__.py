"""Models to compare with: counts, neighbours, factors."""
