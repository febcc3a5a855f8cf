"""Grids of models, data sets and seeds: cells, numbers, tables, pages."""
