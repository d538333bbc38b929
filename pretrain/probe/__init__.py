"""What each layer of a teacher offers a student: relation entropy, short distillation, labels."""
