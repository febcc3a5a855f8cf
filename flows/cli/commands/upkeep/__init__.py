"""Commands about releases, the store and the ledger."""
