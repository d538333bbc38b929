"""Recipes, and the processes that run them."""
