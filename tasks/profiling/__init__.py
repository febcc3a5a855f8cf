"""Prompts of user profiles, rendered from blocks of training events and of earlier answers."""
