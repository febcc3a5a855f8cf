"""LLM providers: OpenAI-compatible URLs, the local vLLM pair, the dummy."""
