"""Training: collecting experience and learning from it."""
