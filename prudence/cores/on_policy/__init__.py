"""Rollouts and rules of improvement: what PPO and its kin share."""
