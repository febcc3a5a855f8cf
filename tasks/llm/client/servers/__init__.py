"""The servers of a model: connections, rate limits, circuit breakers, request dialects."""
