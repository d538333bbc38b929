"""Fine-tuning: the classifier, its training, evaluation and search."""
