"""The stages: one module each, a pure function and the thin Prefect task around it."""
