"""Task-agnostic distillation of Chinese encoders on Paddle Fleet."""
