"""Removal of users from a store: artifacts, ledger, copies of dumps."""
