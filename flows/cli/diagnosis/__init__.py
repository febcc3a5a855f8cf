"""Checks of `llm4cdsr doctor`: each yields findings and changes nothing."""
