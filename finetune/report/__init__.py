"""What each model is worth: accuracy, latency, size."""
