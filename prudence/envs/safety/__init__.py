"""Safety-Gymnasium's tasks on a current stack: the parts behind :mod:`prudence.envs.safety_gymnasium`."""
