"""Where the files of a dump are, and how they are opened."""
