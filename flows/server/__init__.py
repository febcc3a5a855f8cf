"""The Prefect server of a machine or run, and its protection."""
