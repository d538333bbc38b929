"""A small HTTP service round a Predictor."""
