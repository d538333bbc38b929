"""The released encoder and its model card."""
