"""What commands write to the terminal and to files."""
