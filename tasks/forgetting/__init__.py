"""Removes people from a store: artifacts, ledger, copies of dumps."""
