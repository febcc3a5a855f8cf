"""The stages, one module each: a pure function and the thin Prefect task around it.

The rooms below hold what the stages are made of.
"""
