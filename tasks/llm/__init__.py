"""Asking LLM endpoints: each prompt of a stage is answered once and kept."""
