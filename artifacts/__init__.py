"""The store: immutable, content-addressed artifacts and the ledger of LLM answers."""
