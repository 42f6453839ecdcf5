"""The core of FOSP: in-sample learning of values, and regression on recorded actions, in the latents of a world model."""
