"""The on-policy core: rollouts and improvement rules, which PPO and similar algorithms share."""
