"""Encoders: configuration, weights, the student, and the engines that run a teacher."""
