"""Classification of failed requests, and retries."""
