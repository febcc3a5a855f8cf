"""Which file and column of a dump is which: published forms, headers, likely names."""
