"""The build: plans, steps and workers that turn text into shards, resumable."""
