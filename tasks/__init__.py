"""The stages, one module each: a pure function and a Prefect task.

The packages contain the parts of stages.
"""
