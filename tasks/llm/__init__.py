"""LLM requests: each prompt of a stage is answered once and stored in the ledger."""
