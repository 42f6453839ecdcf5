"""Constants that several on-policy systems share. All are OmniSafe's for Safety-Gymnasium."""

from __future__ import annotations

from collections.abc import Callable

from prudence.constraints import PIDLagrangian
from prudence.cores.on_policy.on_policy import OnPolicyConfig, ValueConfig
from prudence.cores.system import Published
from prudence.loops import RolloutLoop
from prudence.optim import OptimiserConfig

SECOND_ORDER_CRITIC = ValueConfig(optimiser=OptimiserConfig(1e-3, clip=40.0), batch_size=128)
"""The value functions of systems with a trust-region step."""

# It is updated after each episode. An iteration of the suite's protocol has twenty episodes.
PID = PIDLagrangian(0.1, 5e-4, 0.01, maximum=100.0, smoothing=0.95, cost_smoothing=0.95, delay=20)
"""The multiplier of the systems whose name ends in ``pid`` (Stooke et al. 2020)."""


def published(config: OnPolicyConfig) -> Callable[[bool], Published[OnPolicyConfig]]:
    """A function for ``System.published``: ``config`` with the suite's usual protocol, with or without pictures."""
    return lambda vision: Published(config, RolloutLoop())
