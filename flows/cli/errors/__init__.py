"""How errors end a command: message and exit status."""
