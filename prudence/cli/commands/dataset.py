"""``prudence dataset``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from prudence.cli.api import use_compilation_cache
from prudence.cli.commands.usage import UsageError, refuse

if TYPE_CHECKING:
    from prudence.data.dataset import Dataset as Data
    from prudence.envs.base import EnvConfig

_Out = Annotated[Path, tyro.conf.arg(metavar="DIRECTORY")]
_Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
_Obs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
_Costs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="total|separate|NAME [NAME ...]")]
_Env = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE [NAME=VALUE ...]")]


@dataclass(frozen=True)
class Record:
    """Record whole episodes of a policy.

    The policy is a trained one, uniform actions, or a script of your own, which says what to do for an observation.
    Its episodes have seeds of their own, apart from those of training and of evaluation.

    A run needs nothing else: prudence dataset record runs/goal --out data/safe
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|random|MODULE:NAME")]
    """The directory of a run, which acts as it is evaluated; random, for uniform actions; or module:name, a function of
    the named observations, or a class of such functions, of which each environment has its own (reset() is called when
    an episode begins). An action is in [-1, 1], or the number of a discrete one."""
    out: _Out
    """Directory of the new data set."""
    episodes: int = 200
    """Number of episodes."""
    like: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """For random and scripts: act in the environment of this run."""
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """For random and scripts: act in this task."""
    obs: _Obs = ()
    """With --task: observations of a task whose suite offers several."""
    action_repeat: int = 1
    """With --task: raw steps that one decision lasts. A run that goes on from this data must have the same."""
    costs: _Costs = ("total",)
    """With --task: total, separate, or the names of the costs to use."""
    env: _Env = ()
    """With --task: other settings of the environment, such as options of the task's suite. A value is JSON, or else a
    string."""
    explore: bool = False
    """A run acts as in training: it samples actions where evaluation takes the policy's mode."""
    seed: int = 0
    """Seed of the episodes."""
    name: _Name = None
    """Name of the source in tables and figures. The default is the name of the run or of the policy."""
    licence: str | None = None
    """Licence of the data, if you publish it."""
    note: str = ""
    """What a reader must know about the data."""
    trust: bool = False
    """Run code that the run's files name (a task module:Class, a cost function). Only for files that you trust."""

    def run(self) -> int:
        from prudence.cli.present import progress_bar
        from prudence.datasets.record import record_dataset

        use_compilation_cache()
        if self.like is not None and self.task is not None:
            raise UsageError("give --like RUN or --task TASK, not both")
        env: Any = self.like
        if self.task is not None:
            env = _environment(self.task, self.obs, self.action_repeat, self.costs, self.env)
        elif self.env:
            raise UsageError("--env sets the environment of --task: give that too")
        with progress_bar("recording episodes", self.episodes, Console(stderr=True)) as show:
            data, result = record_dataset(
                self.policy,
                self.out,
                episodes=self.episodes,
                env=env,
                explore=self.explore,
                seed=self.seed,
                name=self.name,
                licence=self.licence,
                note=self.note,
                trust=self.trust,
                progress=show,
            )
        print(result.one_line())
        return _made(data)


@dataclass(frozen=True)
class FromReplay:
    """Make a data set of the whole episodes in a run's replay: everything that it tried while it learned.

    Such data are often called medium-replay. The run must not be training.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run that learns from a replay."""
    out: _Out
    """Directory of the new data set."""
    name: _Name = None
    """Name of the source. The default is that of the run."""
    licence: str | None = None
    """Licence of the data, if you publish it."""
    note: str = ""
    """What a reader must know about the data."""

    def run(self) -> int:
        from prudence.datasets.record import dataset_from_replay

        with Console(stderr=True).status("copying the replay") as status:
            tell = lambda number: status.update(f"copying the replay: {number} episodes")
            data = dataset_from_replay(
                self.run_directory, self.out, name=self.name, licence=self.licence, note=self.note, progress=tell
            )
        return _made(data)


@dataclass(frozen=True)
class Mix:
    """Join datasets of one environment, or choose episodes of one by their return and cost.

    Copies episodes, and keeps where they come from. Datasets of other observations, actions, costs or action repeats
    are refused.
    """

    datasets: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATASET [DATASET ...]")]
    """Directories of data sets."""
    out: _Out
    """Directory of the new data set."""
    episodes: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]")] = None
    """Number of episodes from each data set, drawn without replacement. The default is all."""
    max_cost: Annotated[float | None, tyro.conf.arg(metavar="COST")] = None
    """Keep only episodes whose costs, summed over all constraints, are at most this."""
    min_return: Annotated[float | None, tyro.conf.arg(metavar="RETURN")] = None
    """Keep only episodes whose return is at least this."""
    seed: int = 0
    """Seed of the draw."""
    note: str = ""
    """What a reader must know about the data."""

    def run(self) -> int:
        from prudence.datasets.mix import mix_datasets

        with Console(stderr=True).status("mixing") as status:
            data = mix_datasets(
                self.datasets,
                self.out,
                episodes=self.episodes,
                max_cost=self.max_cost,
                min_return=self.min_return,
                seed=self.seed,
                note=self.note,
                progress=lambda number: status.update(f"mixing: {number} episodes"),
            )
        return _made(data)


@dataclass(frozen=True)
class Inspect:
    """Show what a data set holds: return, cost and length by source, actions, and entries that never change.

    Draws coverage.png: the return of every episode against its cost. It says what a learner can know: a model foresees
    costs only if the data has some, and a policy cannot do better in places where nobody was.
    """

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Directory of a data set."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The picture. The default is coverage.png in the data set. It does not belong to the data."""
    against: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """Compare the ranges of the observations with random episodes of this task. Entries that do not overlap probably
    have another order or meaning."""
    obs: _Obs = ()
    """With --against: observations of a task whose suite offers several."""
    action_repeat: int = 1
    """With --against: raw steps that one decision lasts."""
    costs: _Costs = ("total",)
    """With --against: total, separate, or the names of the costs to use."""

    def run(self) -> int:
        from prudence.data.dataset import Dataset
        from prudence.datasets.coverage import draw_coverage
        from prudence.datasets.summary import disjoint

        data = Dataset(self.dataset)
        found = _show(data)
        print(f"\n{draw_coverage(found, self.out or self.dataset / 'coverage.png')}")
        if self.against is not None:
            env = _environment(self.against, self.obs, self.action_repeat, self.costs)
            apart = disjoint(data, env)
            said = "every entry overlaps" if not apart else f"{len(apart)} entries do not overlap"
            print("\n".join([f"against random episodes of {self.against}: {said}", *apart]))
        return 0


@dataclass(frozen=True)
class Import:
    """Make a data set from a file of DSRL, D4RL or Minari.

    Steps of such files are raw steps of the simulator, which cannot be joined to longer decisions: the dataset has
    action repeat 1. The observations of a task are named as in the task:

    prudence dataset import SafetyPointGoal1Gymnasium-v0-100-2022.hdf5 --format dsrl --task SafetyPointGoal1-v0
    --obs lidar --observation-name lidar --out data/dsrl
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|ID")]
    """A file; or a Minari dataset, by its id or its directory."""
    format: Literal["dsrl", "d4rl", "minari"]
    """The format of the file."""
    out: _Out
    """Directory of the new data set."""
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """The task of the data, with the observations, actions and costs of the file. Without a task, a run on this data
    cannot be evaluated."""
    obs: _Obs = ()
    """With --task: observations of a task whose suite offers several."""
    costs: _Costs = ("total",)
    """With --task: total, separate, or the names of the costs to use."""
    observation_name: str = "state"
    """Name of the observation, if the file does not give one: the name that the task uses."""
    cost_key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Where the costs are, if they are not in the usual place: costs (DSRL), or cost or cost_NAME in infos (Minari)."""
    cost_function: Annotated[str | None, tyro.conf.arg(metavar="MODULE:NAME")] = None
    """Compute the costs: a function of the named observations [T, ...] that decisions led to, which returns [T] or
    [T, C]."""
    no_cost: bool = False
    """The data have no costs."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Number of episodes to read. The default is all."""
    drop_incomplete: bool = False
    """Leave out an unfinished episode. Otherwise it counts as a truncated one."""
    download: bool = False
    """Download a Minari dataset that is not on this machine."""
    name: _Name = None
    """Name of the source. The default is that of the file."""
    licence: str | None = None
    """Licence of the data, as its publisher states it."""
    note: str = ""
    """What a reader must know about the data."""

    def run(self) -> int:
        from prudence.data.formats.common import ImportOptions
        from prudence.datasets.exchange import find_cost_rule, import_dataset

        if [self.no_cost, self.cost_key is not None, self.cost_function is not None].count(True) > 1:
            raise UsageError("give one of --cost-key, --cost-function and --no-cost")
        options = ImportOptions(
            observation_name=self.observation_name,
            cost_key=self.cost_key,
            no_cost=self.no_cost,
            cost_rule=find_cost_rule(self.cost_function) if self.cost_function else None,
            limit=self.limit,
            drop_incomplete=self.drop_incomplete,
            download=self.download,
        )
        with Console(stderr=True).status("importing") as status:
            data = import_dataset(
                self.source,
                self.out,
                format=self.format,
                env=None if self.task is None else _environment(self.task, self.obs, 1, self.costs),
                options=options,
                name=self.name,
                licence=self.licence,
                note=self.note,
                progress=lambda number: status.update(f"importing: {number} episodes"),
            )
        return _made(data)


@dataclass(frozen=True)
class Export:
    """Write a data set in the format of Minari or DSRL, for other libraries.

    In Minari costs are in infos, as cost or cost_NAME, and pictures are kept exactly. DSRL has one vector as
    observation, and one cost.
    """

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Directory of a data set."""
    format: Literal["minari", "dsrl"]
    """The format."""
    to: Annotated[str, tyro.conf.arg(metavar="PATH|ID")]
    """A file for DSRL. For Minari an id, such as robot/reach-v0, among its local datasets; or a path that begins with
    . or / and ends with a version, such as ./reach-v0."""

    def run(self) -> int:
        from prudence.datasets.exchange import export_dataset

        with Console(stderr=True).status("exporting"):
            path = export_dataset(self.dataset, self.to, format=self.format)
        print(path)
        return 0


def _environment(
    task: str, obs: tuple[str, ...], action_repeat: int, costs: tuple[str, ...], others: tuple[str, ...] = ()
) -> EnvConfig:
    from prudence.cli.settings import parse_arguments
    from prudence.envs import registry

    chosen = costs[0] if len(costs) == 1 and costs[0] in ("total", "separate") else costs
    try:
        settings = parse_arguments(others) if others else {}
    except ValueError as error:
        raise UsageError(f"--env: {error}") from error
    lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
    common = {"obs": obs, "action_repeat": action_repeat, "costs": chosen}
    return registry.configure(task, **{**common, **settings, **lists})


def _made(data: Data) -> int:
    _show(data)
    print(f"\n{data.directory}: digest {data.digest[:12]}; next: prudence dataset inspect {data.directory}")
    return 0


def _show(data: Data) -> Any:
    from prudence.datasets.summary import summarise

    found = summarise(data)
    heads, rows = found.table()
    console, table = Console(), Table(heads[0], box=None)
    # A source a column, since terminals are narrow.
    for row in rows:
        table.add_column(row[0], justify="right", overflow="fold")
    for index, head in enumerate(heads[1:], start=1):
        table.add_row(head, *(row[index] for row in rows))
    console.print(table)
    print("\n".join(["", *found.notes()]))
    return found


_Choice = Annotated[
    Annotated[Record, tyro.conf.subcommand("record")]
    | Annotated[FromReplay, tyro.conf.subcommand("from-replay")]
    | Annotated[Mix, tyro.conf.subcommand("mix")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Export, tyro.conf.subcommand("export")],
    tyro.conf.arg(name=""),
]


@dataclass(frozen=True)
class Dataset:
    """Record, mix, inspect, import and export data sets, from which agents learn without an environment.

    A dataset is a directory of whole episodes that never changes (docs/datasets.md).
    """

    command: tyro.conf.OmitSubcommandPrefixes[_Choice]

    def run(self, rest: list[str]) -> int:
        refuse(rest)
        return self.command.run()
