"""The Prefect server of this machine or of one run, and what keeps others out of it."""
