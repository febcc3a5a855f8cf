"""Identification of files and columns: public formats, headers, likely names."""
