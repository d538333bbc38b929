"""The objectives: relation losses and whole-word masking."""
