"""The ``prudence`` command."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence

import tyro

from prudence.cli.commands.usage import UsageError

_USAGE = """usage: prudence COMMAND ...

Safe reinforcement learning with world models.

  check TASK     step an environment, report what Prudence sees, and what to mend
  train AGENT    train an agent on a task, or resume a run
  simulate       plan in the true simulator, without learning: the value of planning with a perfect model
  evaluate RUN   run a trained policy on unseen episodes: return, cost, and whether the budget holds
  inspect RUN    compare what the agent foresees with what comes; find where its time and costs go
  export RUN     write the policy to one file that runs without Prudence
  plot RUN...    draw learning curves of one or several runs; --frontier draws return against cost
  record RUN...  make a small record of evaluated runs: configuration, provenance, episodes, curve
  compare RUN... compare systems in one table and one figure, over runs and records
  sweep FILE     train, evaluate and compare many runs in parallel
  dataset ...    record, mix, inspect, import and export data for learning without an environment
  list           list agents, presets and tasks
  doctor         check this machine, and say what it lacks and how to mend that

`prudence COMMAND --help` explains each. A first run, of about ten minutes on two cores:

  prudence train safedreamer-bsrp-lag --task SafetyPointGoal1-v0 --obs lidar --cost-limit 25 \\
      --steps 150000 --loop.updates-per-decision 0.2
"""

COMMANDS = (
    "check",
    "train",
    "simulate",
    "evaluate",
    "inspect",
    "export",
    "plot",
    "record",
    "compare",
    "sweep",
    "dataset",
    "list",
    "doctor",
)
"""Each is the class ``prudence.cli.commands.<name>.<Name>``, which is imported when it is called."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status. Expected errors are one line, without a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"prudence: there is no command '{name}'\n\n{_USAGE}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"prudence.cli.commands.{name}")
    if (elsewhere := getattr(module, "elsewhere", lambda _: None)(rest)) is not None:
        print(f"prudence {name}: {elsewhere}", file=sys.stderr)
        return 2
    command_class = getattr(module, name.capitalize())
    command, unknown = tyro.cli(command_class, args=rest, prog=f"prudence {name}", return_unknown_args=True)
    try:
        return command.run(unknown)
    except UsageError as error:
        print(f"prudence {name}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        print(f"prudence {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _expected() -> tuple[type[Exception], ...]:
    """Errors whose messages are for users."""
    from prudence.envs.base import EnvError
    from prudence.runs.checkpoint import CheckpointError, CheckpointMismatch
    from prudence.runs.config import ConfigError
    from prudence.runs.directory import RunDirectoryError
    from prudence.training.trainer import TrainingDiverged

    known = (EnvError, RunDirectoryError, ConfigError, CheckpointError, CheckpointMismatch, TrainingDiverged)
    return (*known, ValueError, OSError, ImportError)


if __name__ == "__main__":
    sys.exit(main())
