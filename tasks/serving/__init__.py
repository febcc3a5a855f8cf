"""Using what was trained: in Python, over HTTP, as files, as a graph."""
