"""The training loop and its parts: step, optimizer, ranks, checkpoints, resume, metrics."""
