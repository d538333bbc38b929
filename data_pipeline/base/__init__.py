"""The ground that all four packages stand on: errors, recipes, files, progress."""
