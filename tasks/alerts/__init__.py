"""Events, Prefect artifacts and webhook messages for operators."""
