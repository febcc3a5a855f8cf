"""The remote side of a store: objects under an fsspec URL."""
