"""The ``prudence`` command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from prudence.cli import doctor
from prudence.cli.api import configure, default_directory, train, use_compilation_cache
from prudence.cli.settings import parse_settings
from prudence.deploy.shipped import LIMIT_MB, find_policy
from prudence.envs import custom
from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.registry import SUITES, options_of, task_ids
from prudence.evidence import mpc_sim as simulate
from prudence.evidence import plot
from prudence.inspection import report
from prudence.planners import CrossEntropy
from prudence.presets import PRESETS
from prudence.runs.checkpoint import CheckpointError, CheckpointMismatch
from prudence.runs.config import ConfigError
from prudence.runs.directory import RunDirectory, RunDirectoryError
from prudence.systems import SYSTEMS
from prudence.training.trainer import TrainingDiverged

_USAGE = """usage: prudence COMMAND ...

Safe reinforcement learning with world models.

  train AGENT    train an agent on a task, or go on with a run
  simulate       plan in the true simulator, without learning: what a model without mistakes would be worth
  evaluate RUN   run a trained policy on unseen episodes: return, cost, and whether the budget holds
  inspect RUN    what it foresees, beside what came: observations by part, costs; where its time and costs go
  export RUN     its policy in one file that needs neither Prudence nor what only training saw
  plot RUN...    learning curves of one run, or of several beside each other; --frontier: return against cost
  record RUN...  a small record of evaluated runs to keep: configuration, provenance, episodes, curve
  compare RUN... systems beside each other: one table and one figure over runs and records
  list           agents, presets and tasks
  doctor         what this machine has, and what to do about what it lacks

`prudence COMMAND --help` explains each. A first run, of about ten minutes on two cores:

  prudence train safedreamer-bsrp-lag --task SafetyPointGoal1-v0 --obs lidar --preset cpu --cost-limit 2
"""

if TYPE_CHECKING:
    _AgentName = _PresetName = str
else:  # From the list of systems, so that the command's choices are always those that there are.
    _AgentName, _PresetName = Literal[tuple(SYSTEMS)], Literal[PRESETS]

_EXPECTED = (
    EnvError,
    RunDirectoryError,
    ConfigError,
    CheckpointError,
    CheckpointMismatch,
    TrainingDiverged,
    ValueError,
    OSError,
    ImportError,
)


@dataclass(frozen=True)
class Train:
    """Train an agent on a task, or go on with the run in --out.

    Repeating a command resumes its run where the last checkpoint was taken; a larger --steps extends it.
    Ctrl-C saves and stops. Any other setting of the preset can be changed too: see
    `prudence train AGENT --settings` for all of them, and pass for example `--agent.horizon 10`, or
    `--env.costs separate` to hold every cost of the task against a budget of its own.
    """

    agent: Annotated[_AgentName, tyro.conf.Positional]
    """What to train; `prudence list` says what each is."""
    task: str = "SafetyPointGoal1-v0"
    """A task of `prudence list`, any Gymnasium id, or module:Class. It must report info["cost"]."""
    obs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ()
    """Observations of a task whose suite offers several (`prudence list`), one or more of them: lidar (the default),
    coordinates, vision. Tasks with observations of their own show them all."""
    preset: _PresetName = "cpu"
    """Sizes and rates: debug (seconds, learns nothing), cpu (minutes on two cores), paper; of world models only: gpu
    (paper in bfloat16) and comparison (paper, actions repeated 4 times and a budget of 2); of model-free agents only:
    suite (Safety-Gymnasium's protocol)."""
    cost_limit: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="COST [COST ...]")] = None
    """The budget: expected cost of an episode that is allowed; one number, or one for each constraint.
    By default the preset's: 2; 25 for LAMBDA in cpu, gpu and paper, and for model-free agents except in paper."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Raw environment steps in all (repeated actions count each time). By default the preset's."""
    seed: int = 0
    """Determines everything: episodes, initial weights, samples."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Run directory. By default runs/AGENT-TASK-SEED, with the observations after a task that offers several."""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Weights & Biases project to log to, beside metrics.jsonl and TensorBoard."""
    start_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Begin as a copy of another run, with its weights, experience and steps, and go on under the settings given here:
    another budget, price or planner. That run is left as it is; --steps counts its steps, too."""
    settings: bool = False
    """Show every setting of the preset, with its value here, and leave."""

    def run(self, rest: list[str]) -> int:
        limit = self.cost_limit
        config = configure(
            self.agent,
            self.task,
            obs=self.obs,
            preset_name=self.preset,
            steps=self.steps,
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
        directory = train(config=config, out=out, wandb=self.wandb, start_from=self.start_from)
        try:
            print(f"learning curve: {plot.plot_run(directory)}", file=sys.stderr)
        except ValueError as error:  # A run of a few steps has no episode to draw, and succeeded all the same.
            print(f"no learning curve: {error}", file=sys.stderr)
        print(f"next: prudence evaluate {directory}", file=sys.stderr)
        return 0


@dataclass(frozen=True)
class Simulate:
    """Plan in the true simulator, without learning anything: SafeDreamer's baseline MPC:sim.

    At every decision a cross-entropy search draws plans, and the simulator itself says what each would earn and
    cost; plans that keep within the budget are preferred. It is what planning would be worth with a model that
    makes no mistakes, to hold learned agents against. Only Safety-Gymnasium's tasks can be rolled out so. It is
    slow: some three seconds of processor time a decision, over all cores, and 200 decisions an episode of
    PointGoal1. With --plans 64 --iterations 3 it is a fifth of that.

    Prints what `prudence evaluate` prints, for the same episodes if their number and the seed are the same, and
    writes a directory that `prudence record` reads.
    """

    task: str = "SafetyPointGoal1-v0"
    """One of Safety-Gymnasium's tasks (`prudence list --tasks`)."""
    episodes: int = 5
    """More episodes make the statement about cost sharper."""
    cost_limit: Annotated[tuple[float, ...], tyro.conf.arg(metavar="COST [COST ...]")] = (2.0,)
    """The budget: cost of an episode that is allowed. A plan's costs are held against it as if the whole episode went
    on like that, so that a small budget allows none within the horizon."""
    action_repeat: int = 5
    """Raw steps that one decision lasts."""
    plans: int = 150
    """Plans of each round; the best tenth are the elites."""
    horizon: int = 15
    """Decisions that a plan looks ahead. Nothing is known of what lies beyond."""
    iterations: int = 6
    """Rounds of drawing plans around the elites of the last round."""
    seed: int = 0
    """Of the episodes, and of the plans that are drawn."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Where to write. By default runs/mpc-sim-TASK-SEED."""
    video: bool = False
    """Film the first episode to videos/evaluation.mp4."""

    def run(self, rest: list[str]) -> int:
        from prudence.cli.present import simulate_run

        _refuse(rest)
        use_compilation_cache()
        search = CrossEntropy(self.horizon, self.plans, max(1, self.plans // 10), self.iterations)
        limit = self.cost_limit[0] if len(self.cost_limit) == 1 else self.cost_limit
        config = simulate.SimulationConfig(
            EnvConfig(self.task, action_repeat=self.action_repeat),
            simulate.SimulatedPlanning(search, limit),
            episodes=self.episodes,
            seed=self.seed,
        )
        directory = self.out or Path("runs") / f"{simulate.NAME}-{self.task}-{self.seed}"
        result, rate = simulate_run(config, directory, video=self.video)
        print(result.summary())
        print(f"{rate:.2f} decisions/s; written to {directory}")
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Run a trained policy on episodes that training never saw.

    Prints the mean return with its 95 % interval and, for each constraint, what the expected episode cost
    stays below with 95 % confidence, against the budget. Writes evaluation.json and report.html to the run.

    A record that has policies (results/NAME) is evaluated as its run would be, and stays as it is.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run, of a record, or of one of its policies."""
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """How many, 20 by default. More make the statement about cost sharper."""
    until_decided: bool = False
    """Instead of a number of episodes: go on until the expected cost is shown to be below or above each budget, by a
    bound that stays valid though one looks again and again (after 20, 30, 50, 80, ... episodes)."""
    max_episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """With --until-decided, where to stop undecided; 400 by default. A larger number makes early looks stricter."""
    policy: Annotated[str | None, tyro.conf.arg(metavar="SEED")] = None
    """Of a record, which of its policies; the first by default."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Where to write. By default the run; of a record, runs/NAME-POLICY-evaluation."""
    seed: int = 0
    """Of the evaluation's episodes."""
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """The task, if it must be checked: a run of another one is refused."""
    explore: bool = False
    """Act as in training, with samples where the policy would otherwise take its mode."""
    video: bool = False
    """Film the first episode to videos/evaluation.mp4."""
    show_plan: bool = False
    """Film the plans that each of its decisions was chosen from to videos/plan.mp4, and the most contested decision to
    plan.png. For agents that plan."""
    deadline: Annotated[float | None, tyro.conf.arg(metavar="MS")] = None
    """Milliseconds for a decision, as on a robot: the search does as many iterations as fit, and says how many. For
    agents that plan; steps one environment at a time."""

    def run(self, rest: list[str]) -> int:
        from prudence.cli.present import evaluate_run, place_for
        from prudence.evidence.record import repetition

        _refuse(rest)
        use_compilation_cache()
        if self.until_decided and self.episodes is not None:
            raise _UsageError("--until-decided chooses the number of episodes: give --max-episodes, not --episodes")
        if not self.until_decided and self.max_episodes is not None:
            raise _UsageError("--max-episodes goes with --until-decided: give --episodes, or both of these")
        run, names = find_policy(self.run_directory, self.policy)
        if names:
            others = f"; others: {', '.join(n for n in names if n != run.path.name)} (--policy)" * (len(names) > 1)
            print(f"policy {run.path.name} of {self.run_directory}{others}", file=sys.stderr)
        target = place_for(run, self.out)
        result = evaluate_run(
            run.path,
            episodes=self.max_episodes if self.until_decided else self.episodes,
            until_decided=self.until_decided,
            out=target.path,
            seed=self.seed,
            mode="train" if self.explore else "evaluate",
            task=self.task,
            video=self.video,
            show_plan=self.show_plan,
            deadline=None if self.deadline is None else self.deadline / 1000,
        )
        print(result.summary())
        if run.ships and (repeated := repetition(run, result)):
            print(repeated)
        print(f"report: {report.write_report(run.path, target.path)}")
        return 0


@dataclass(frozen=True)
class Inspect:
    """Compare what an agent foresees with what came: on the newest sequences of its replay, and in episodes.

    The model sees --context steps, then imagines under the recorded actions. A policy can only avoid costs that
    its model foresees. Says how far each named part of the observations is foreseen, and whether the costs that
    are foreseen are those that come. In episodes of the policy: how much time is lost where goals take long, how
    costs come about, and what was foreseen just before. An agent without a world model has the episodes only.

    Writes inspection.json and report.html, and draws foresight.png, entries.png, calibration.png, episodes.png
    and, for image observations, open_loop_NAME.png into the run; for an agent with a posterior over models
    (LAMBDA's) also doubt.png: how far its models disagree, and whether the truth lies among them.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run, with its replay."""
    context: int = 25
    """Decisions that the model sees."""
    ahead: int = 45
    """Decisions that it imagines."""
    sequences: int = 128
    """How many of the newest sequences to average over."""
    episodes: int = 20
    """Of the policy, on seeds apart from training's; 0 for none."""
    seed: int = 0
    """Of the imagined samples and of the episodes."""
    against: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """Another task with the same observations, to see whether the models disagree where they have not been."""

    def run(self, rest: list[str]) -> int:
        import jax

        from prudence.inspection.inspect import inspect_run
        from prudence.inspection.tables import sheets

        _refuse(rest)
        use_compilation_cache()
        found = inspect_run(
            self.run_directory,
            key=jax.random.key(self.seed),
            sequences=self.sequences,
            context=self.context,
            ahead=self.ahead,
            against=self.against,
            episodes=self.episodes,
            seed=self.seed,
        )
        console = Console()
        for sheet in sheets(found.numbers()):
            table = Table(*sheet.heads, box=None, show_header=any(sheet.heads), padding=(0, 1, 0, 0))
            for row in sheet.rows:
                table.add_row(*row)
            console.print(f"\n{sheet.title}", style="bold", highlight=False)
            console.print(table)
            if sheet.note:
                console.print(sheet.note, style="dim", highlight=False)
        print("\n".join(["", *map(str, found.pictures)]))
        print(f"report: {report.write_report(self.run_directory)}")
        return 0


@dataclass(frozen=True)
class Export:
    """Write a trained policy to one file that runs without Prudence, on a CPU or an NVIDIA GPU.

    The file has the compiled decision (StableHLO) with its weights, and a description in JSON; nothing that only
    training needed: no critics (unless the agent plans with them), no decoder, no privileged world model. Its actions
    are those of `prudence.load_policy`. examples/04_run_exported.py runs it with NumPy, JAX and flatbuffers.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write. By default policy.zip in the run."""

    def run(self, rest: list[str]) -> int:
        from prudence.deploy.export import export_run

        _refuse(rest)
        use_compilation_cache()
        found = export_run(self.run_directory, self.out)
        print(f"{found.path}: {found.size / 1e3:,.0f} kB, {1e3 * found.latency:.2f} ms a decision on this machine")
        print(f"runs on {' and '.join(found.about['platforms'])}; ", end="")
        print(f"sees {', '.join(found.about['observation'])}; examples/04_run_exported.py runs it")
        return 0


@dataclass(frozen=True)
class Plot:
    """Draw learning curves: of one run into it, or of several, one line an agent with its spread over seeds.

    Lines are means of the training episodes in windows of steps. With --frontier, return is drawn against cost
    instead: a path for each agent, pale at first, and where its evaluation lies.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of runs; with --frontier also of records, such as those in results/."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The picture. By default curve.png in the run, comparison.png here, or frontier.png in the only run or here."""
    frontier: bool = False
    """Return against cost over training."""

    def run(self, rest: list[str]) -> int:
        _refuse(rest)
        if not self.runs:
            raise _UsageError("name at least one run: prudence plot runs/...")
        if self.frontier:
            from prudence.evidence.frontier import plot_frontier

            alone = self.runs[0] if len(self.runs) == 1 and RunDirectory(self.runs[0]).exists else Path()
            print(plot_frontier(self.runs, self.out or alone / "frontier.png"))
            return 0
        if len(self.runs) == 1:
            print(plot.plot_run(self.runs[0], self.out))
            return 0
        print(plot.plot_runs(plot.group_runs(self.runs), self.out or Path("comparison.png")))
        return 0


@dataclass(frozen=True)
class Record:
    """Make a small record of evaluated runs to keep: DIRECTORY/result.json, a curve and the policies.

    The JSON has, for each run, its configuration, commands, commit, machine, versions, wall time, every evaluation
    episode and the curves. policies/ has what acting needs of each run, without optimisers, replay and what only
    learning uses, so that `prudence evaluate DIRECTORY` repeats its episodes. It is what results/ is made of.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of runs that `prudence evaluate` has seen, such as several seeds of one agent."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIRECTORY")]
    """Where to put the record."""
    note: str = ""
    """What a reader must know of these runs."""
    policies: bool = True
    """Whether to keep the policies."""
    policy_limit: Annotated[float, tyro.conf.arg(metavar="MB")] = LIMIT_MB
    """What a policy may take, in megabytes."""

    def run(self, rest: list[str]) -> int:
        from prudence.evidence.record import record

        _refuse(rest)
        limits = {"policies": self.policies, "policy_limit": self.policy_limit}
        print("\n".join(map(str, record(self.runs, self.out, note=self.note, **limits))))
        return 0


@dataclass(frozen=True)
class Compare:
    """Compare systems on one task: one table and one figure, over runs and records (`prudence record`) in any mixture.

    Runs of one agent with the same observations and budget are its seeds and make one row: mean and interquartile
    mean (IQM) of its evaluation episodes' return and costs with 95 % bootstrap intervals, the share of episodes
    within the budget, and the cost regret of training. Writes comparison.md, comparison.json and comparison.png.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of runs that `prudence evaluate` has seen, or of records, such as those in results/."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIRECTORY")]
    """Where to put the table, the numbers and the figure."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="SYSTEM")] = None
    """Normalise by this system, by the name that the table gives it: an unconstrained agent such as dreamerv3. Adds
    return, cost beyond the budget and cost regret as multiples of its own (LAMBDA, appendix H)."""
    budget: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="COST [COST ...]")] = None
    """Hold all against this budget; one number, or one for each constraint. By default the runs' own, which must
    then be the same."""

    def run(self, rest: list[str]) -> int:
        from prudence.evidence.compare import compare

        _refuse(rest)
        if not self.runs:
            raise _UsageError("name at least one run or record: prudence compare runs/... --out comparison")
        found = compare(self.runs, reference=self.reference, budget=self.budget)
        heads, rows = found.table()
        # A system a column, since terminals are narrow.
        console, table = Console(), Table(heads[0], box=None)
        for row in rows:
            table.add_column(row[0], justify="right", overflow="fold")
        for index, head in enumerate(heads[1:], start=1):
            table.add_row(head, *(row[index] for row in rows))
        console.print(f"{found.title}\n", style="bold", highlight=False, markup=False, soft_wrap=True)
        console.print(table)
        print("\n".join(["", *found.notes(), "", *map(str, found.write(self.out))]))
        return 0


@dataclass(frozen=True)
class List:
    """Show the agents, presets and tasks there are."""

    tasks: bool = False
    """Task ids only, one a line."""

    def run(self, rest: list[str]) -> int:
        _refuse(rest)
        if self.tasks:
            print("\n".join(task_ids()))
            return 0
        console, table = Console(), Table("agent", "what it is", box=None)
        for system in SYSTEMS.values():
            table.add_row(system.name, system.summary)
        table.add_row(simulate.NAME, simulate.SUMMARY)
        console.print(table)
        console.print(f"\npresets  {', '.join(PRESETS)}")
        console.print("tasks    `prudence list --tasks` names those of Prudence's suites\n")
        for suite in (*SUITES, custom.SUITE):
            number = f"{len(suite.tasks)} tasks, such as {suite.example}" if suite.tasks else suite.example
            console.print(f"{suite.name}: {number}", style="bold", highlight=False)
            console.print(f"  {suite.summary}", highlight=False)
            for what, names in (
                ("robots", suite.robots),
                ("--obs", suite.observations),
                ("--env.privileged", suite.privileged),
                ("options", [f"--env.{name.replace('_', '-')}" for name in options_of(suite)]),
            ):
                if names:
                    console.print(f"  {what}: {', '.join(names)}", highlight=False)
        return 0


@dataclass(frozen=True)
class Doctor:
    """Check this machine: Python, JAX, rendering, simulators, disk, memory. Exits with 1 if something needed fails."""

    def run(self, rest: list[str]) -> int:
        _refuse(rest)
        return doctor.print_checks(doctor.doctor())


_COMMANDS: dict[str, Callable[..., Any]] = {
    "train": Train,
    "simulate": Simulate,
    "evaluate": Evaluate,
    "inspect": Inspect,
    "export": Export,
    "plot": Plot,
    "record": Record,
    "compare": Compare,
    "list": List,
    "doctor": Doctor,
}


class _UsageError(Exception):
    pass


def _refuse(rest: list[str]) -> None:
    if rest:
        raise _UsageError(f"unknown arguments: {' '.join(rest)}. See --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status. Expected errors are one line, without a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    name, *rest = arguments
    if name not in _COMMANDS:
        print(f"prudence: there is no command '{name}'\n\n{_USAGE}", file=sys.stderr)
        return 2
    if name == "train" and simulate.NAME in rest[:1]:
        print(
            f"prudence train: {simulate.NAME} does not learn, it plans in the true simulator: prudence simulate",
            file=sys.stderr,
        )
        return 2
    command, unknown = tyro.cli(_COMMANDS[name], args=rest, prog=f"prudence {name}", return_unknown_args=True)
    try:
        return command.run(unknown)
    except _UsageError as error:
        print(f"prudence {name}: {error}", file=sys.stderr)
        return 2
    except _EXPECTED as error:
        print(f"prudence {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
