"""Prompts in shards, answered over HTTP and journaled."""
