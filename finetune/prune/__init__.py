"""Smaller classifiers: by width (heads and neurons) and by single weights."""
