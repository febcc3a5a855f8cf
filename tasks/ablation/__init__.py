"""Ablations on a sample of users: the model with and without item texts or user profiles."""
