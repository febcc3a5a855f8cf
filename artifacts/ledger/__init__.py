"""The ledger of LLM answers."""
