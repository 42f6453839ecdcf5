"""``prudence train``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from prudence.cli.api import configure, default_directory, train
from prudence.cli.settings import parse_settings
from prudence.evidence import mpc_sim, plot
from prudence.presets import PRESETS
from prudence.systems import SYSTEMS

if TYPE_CHECKING:
    _AgentName = _PresetName = str
else:  # From the list of systems, so that the command's choices are always those that there are.
    _AgentName, _PresetName = Literal[tuple(SYSTEMS)], Literal[PRESETS]


@dataclass(frozen=True)
class Train:
    """Train an agent on a task, or go on with the run in --out.

    The same command again resumes the run from its last checkpoint. A larger --steps (offline: --updates) extends it.
    Ctrl-C saves and stops. Every setting of the preset can be changed: `prudence train AGENT --settings` lists them.
    Examples: `--agent.horizon 10`, or `--env.costs separate`, which gives every cost of the task a budget of its
    own.
    """

    agent: Annotated[_AgentName, tyro.conf.Positional]
    """The agent; `prudence list` describes each."""
    task: str | None = None
    """A task of `prudence list`, any Gymnasium id, or module:Class. It must report info["cost"]. The default is
    SafetyPointGoal1-v0, or the task of --dataset."""
    dataset: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Learn from this data set, without an environment (`prudence dataset` makes and inspects data sets). The data
    determine the task, the observations and the action repeat."""
    obs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ()
    """One or more of the observations that the task's suite offers (`prudence list`): lidar (the default), coordinates,
    vision. A task with observations of its own always shows all of them."""
    preset: _PresetName = "cpu"
    """Sizes and rates: debug (seconds, learns nothing), cpu (ten minutes to an hour on two cores, hours from pictures),
    paper; of world models only: gpu (paper in bfloat16) and comparison (paper, actions repeated 4 times and a budget of
    2); of on-policy agents only: suite (Safety-Gymnasium's protocol)."""
    cost_limit: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="COST [COST ...]")] = None
    """The budget: the expected cost that an episode may have. One number, or one for each constraint. The default is
    the preset's: mostly 25 for LAMBDA and for agents without a world model, and 2 for others. The run prints it."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Raw environment steps of the whole run (a repeated action counts each time). The default is the preset's."""
    updates: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """With --dataset: gradient steps of the whole run. The default is the preset's."""
    seed: int = 0
    """Seed of everything that is random: episodes, initial weights, samples."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Run directory. The default is runs/AGENT-TASK-SEED; the task is followed by its observations if its suite offers
    several."""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Weights & Biases project to log to, beside metrics.jsonl and TensorBoard."""
    start_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Begin as a copy of another run, with its weights, experience and steps, and go on with the settings given here:
    another budget, price or planner. The other run does not change. --steps includes its steps. After an offline run,
    training goes on in an environment, with its weights and its data (--loop.offline-share); --steps then begins at 0,
    and the task may be another one with the same observations."""
    restart: bool = False
    """Delete the run that --out holds, with its checkpoints, metrics and experience, and begin anew."""
    settings: bool = False
    """Show every setting of the preset, with its value, and exit."""

    def run(self, rest: list[str]) -> int:
        limit = self.cost_limit
        config = configure(
            self.agent,
            self.task,
            obs=self.obs,
            preset_name=self.preset,
            steps=self.steps,
            updates=self.updates,
            dataset=self.dataset,
            start_from=self.start_from,
            cost_limit=limit[0] if limit is not None and len(limit) == 1 else limit,
            seed=self.seed,
        )
        config = parse_settings(
            config,
            ["--help"] if self.settings else rest,
            prog=f"prudence train {self.agent}",
            description=f"Every setting of '{self.agent}' in the preset '{self.preset}'.",
        )
        out = self.out or default_directory(config)
        run = train(config=config, out=out, wandb=self.wandb, start_from=self.start_from, restart=self.restart)
        try:  # In the run's own directory: an environment may have changed the working directory.
            print(f"learning curve: {plot.plot_run(run)}", file=sys.stderr)
        except ValueError as error:  # A run of a few steps has no episode to draw, and succeeded all the same.
            print(f"no learning curve: {error}", file=sys.stderr)
        print(f"next: prudence evaluate {out}", file=sys.stderr)
        return 0


def elsewhere(arguments: list[str]) -> str | None:
    """What to do instead, for an agent that is not trained."""
    if mpc_sim.NAME not in arguments[:1]:
        return None
    return f"{mpc_sim.NAME} does not learn, it plans in the true simulator: prudence simulate"
