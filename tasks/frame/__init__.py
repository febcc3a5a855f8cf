"""What all stages share: a stage's run, progress, and the model's inputs."""
