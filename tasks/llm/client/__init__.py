"""The asynchronous client of an OpenAI-compatible endpoint."""
