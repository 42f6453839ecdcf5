"""Safe reinforcement learning with world models."""
