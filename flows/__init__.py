"""What runs when: flows, their settings, and the command line."""
