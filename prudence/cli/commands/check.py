"""``prudence check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from prudence.cli.api import configure
from prudence.cli.doctor import print_checks
from prudence.cli.settings import parse_settings
from prudence.envs.check import check


@dataclass(frozen=True)
class Check:
    """Step an environment with random actions, and say what Prudence makes of it and what to mend.

    Observations, actions, costs, time limit, seeds, pictures, speed, a second instance, a worker process. Exits with 1
    where training would be refused. Settings of the environment are those of `prudence train`, such as
    --env.time-limit 500 or --env.kwargs payload=2.0.
    """

    task: Annotated[str, tyro.conf.Positional]
    """A task of `prudence list`, any Gymnasium id, or module:Class."""
    obs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ()
    """Observations of a task whose suite offers several."""
    seconds: float = 5.0
    """How long to step it."""

    def run(self, rest: list[str]) -> int:
        config = parse_settings(
            configure("ppo", self.task, obs=self.obs, preset_name="debug", action_repeat=1),
            rest,
            prog="prudence check",
            description="Settings of the environment (--env.*).",
        )
        return print_checks(check(config.env, seconds=self.seconds).findings)
