"""The Dreamer core: world model, imagination and planning, which Dreamer and similar algorithms share."""
