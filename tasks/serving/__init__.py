"""Use of a release: in Python, over HTTP, as files, as a graph."""
