"""Commands that operate this machine."""
