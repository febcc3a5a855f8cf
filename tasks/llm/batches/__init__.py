"""Prompts in files, answered by the OpenAI Batch API or vLLM offline."""
