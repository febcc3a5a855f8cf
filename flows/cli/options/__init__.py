"""Options that commands share, and the configurations that they make."""
