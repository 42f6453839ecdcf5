"""Inspection of agents: predictions against outcomes, causes of lost time and costs, and films."""
