"""From item files to the catalogue of a dataset."""
