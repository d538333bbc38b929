"""What is trained for: relation losses and whole-word masking."""
