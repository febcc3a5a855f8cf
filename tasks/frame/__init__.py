"""Shared parts of stages: execution, progress, model inputs."""
