"""The HTTP service: routes, messages, requests in batches."""
