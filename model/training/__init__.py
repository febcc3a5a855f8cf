"""The training loop: objective, optimizers, processes, checkpoints."""
