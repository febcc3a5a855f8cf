"""From items as a shop describes them to the catalogue of a dataset."""
