"""Tables of a dump, read in batches: separated values, JSON, Parquet; every record is counted."""
