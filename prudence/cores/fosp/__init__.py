"""The FOSP core: in-sample values and regression on recorded actions, in the latents of a world model."""
