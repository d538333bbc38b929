"""From a classifier to answers: export, back-ends, prediction."""
