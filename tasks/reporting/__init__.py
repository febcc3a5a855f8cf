"""What a report shows, and how it looks."""
