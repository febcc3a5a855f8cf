"""LLM providers: OpenAI-compatible URLs, local vLLM servers, the dummy."""
