"""Shards of prompts, answered over HTTP and journaled."""
