"""Machines with copies of a remote store: use by runs, and copies after removals of users."""
