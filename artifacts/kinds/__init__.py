"""The files of each kind of artifact."""
