"""Readers of tables in batches: CSV, JSON, Parquet; every record is counted."""
