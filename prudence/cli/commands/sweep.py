"""``prudence sweep``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from prudence.cli.api import configure
from prudence.cli.commands.usage import UsageError, refuse
from prudence.cli.settings import json_or_string, parse_settings
from prudence.envs import custom
from prudence.envs.base import EnvError
from prudence.envs.registry import find_suite, make
from prudence.evidence.evaluate import EPISODES
from prudence.run_config import RunConfig
from prudence.runs.console import text_console
from prudence.runs.directory import RunDirectory
from prudence.runs.files import write_text_atomically
from prudence.sweeps.definition import changes, checked, expand, read_definition, write_definition
from prudence.sweeps.driver import Driver, Resources
from prudence.sweeps.page import write_page
from prudence.sweeps.place import Place, Planned
from prudence.sweeps.search import EarlyStopping, require
from prudence.sweeps.table import Board
from prudence.sweeps.trial import Trial
from prudence.systems import find_system

_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
_Number = Annotated[int | None, tyro.conf.arg(metavar="INT")]


@dataclass(frozen=True)
class Sweep:
    """Train, evaluate and compare many runs: agents × tasks × observations × budgets × settings × seeds.

    They come from a TOML file, from flags, or from both; flags win. Every trial is an ordinary run directory, which Ray
    trains on cores of its own (pip install 'prudence-rl[sweep]'). The same command goes on after a kill of anything. At
    the end there are a comparison for each task and a page, sweep.md. docs/sweeps.md has the format of the file.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]")] = ()
    """The sweep, in TOML. Without it and without flags, the sweep in --out goes on."""
    agents: _Names = ()
    """What to train (`prudence list`)."""
    tasks: _Names = ()
    """Tasks to train on."""
    obs: _Names = ()
    """Observations, each a choice. (Several at once: obs = [["lidar", "vision"]] in a file.)"""
    budgets: Annotated[tuple[float, ...], tyro.conf.arg(metavar="COST [COST ...]")] = ()
    """Allowed costs of an episode, each a choice, for the agents that have a budget."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT [INT ...]")] = ()
    """Seeds of training; 0 by default."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Sizes and rates, cpu by default."""
    steps: _Number = None
    """Raw environment steps of each trial; by default the preset's."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE [NAME=VALUE ...]")] = ()
    """Other settings of `prudence train` (its --settings shows them), each with a value or several:
    'agent.horizon=[10, 15]'."""
    episodes: _Number = None
    """Of each trial's evaluation, 20 by default."""
    search: _Number = None
    """Draw so many samples of the settings' ranges (in the file: {uniform = [0.9, 1.0]})."""
    search_seed: _Number = None
    """Of the samples, 0 by default."""
    asha: bool = False
    """Stop poor trials early: after 10, 30 and 90 % of its steps a trial goes on if it is among the best third, by
    the highest return among those whose cost is within the budget."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Where the sweep is. By default runs/NAME of FILE, or runs/sweep."""
    jobs: _Number = None
    """Trials at a time; by default as many as there are cores and GPUs for."""
    cores_per_trial: int = 1
    """Cores of each trial, which it has to itself."""
    gpus_per_trial: float = 0.0
    """GPUs of each trial. With 0.5, two trials share one."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """A Ray cluster (auto, or HOST:PORT), whose machines share the directories. By default this machine alone."""
    dry_run: bool = False
    """Print the trials and their commands, and leave."""
    retry_failed: bool = False
    """Try failed trials again. Otherwise they stay as they are, since the same run would fail again."""
    change: bool = False
    """The sweep in --out becomes this one. Trials that are in both go on or stay as they are."""

    def run(self, rest: list[str]) -> int:
        refuse([*rest, *map(str, self.files[1:])])
        for option, least in (("jobs", 1), ("cores_per_trial", 1), ("gpus_per_trial", 0)):
            value = getattr(self, option)
            if value is not None and not value >= least:
                raise UsageError(f"--{option.replace('_', '-')} must be at least {least}, not {value}")
        place = Place(self.out or Path("runs") / (self.file.stem if self.file else "sweep"))
        definition = self._definition(place)
        planned = plan(expand(definition))
        resources = Resources(self.jobs, self.cores_per_trial, self.gpus_per_trial, self.address)
        episodes = definition.get("episodes", EPISODES)
        if self.dry_run:
            print("\n".join(_dry(planned, place, resources, episodes)))
            return 0
        self._refuse_another(place, definition)
        require("ray")  # Before anything is written.
        with RunDirectory(place.path).lock():
            write_text_atomically(place.definition, write_definition(definition))
            stopping = EarlyStopping() if definition.get("asha") else None
            with Board(text_console(stderr=True)) as board:
                driver = Driver(place, resources, episodes, stopping, board.show)
                statuses = driver.run(planned, retry_failed=self.retry_failed)
            print(write_page(place, statuses, title=place.path.resolve().name))
        failed = [status for status in statuses if status.state == "failed"]
        for status in failed:
            log = place.log(status.planned.trial)
            print(f"failed: {status.planned.trial.name}: {status.reason} ({log})", file=sys.stderr)
        return 1 if failed else 0

    @property
    def file(self) -> Path | None:
        """The file that is named, if one is."""
        return next(iter(self.files), None)

    def _definition(self, place: Place) -> dict[str, Any]:
        names = ("agents", "tasks", "obs", "budgets", "seeds", "preset", "steps", "episodes", "search", "search_seed")
        given = {name: value for name in names if (value := getattr(self, name)) not in ((), None)}
        given |= {"asha": True} if self.asha else {}
        source, settings = self.file, _settings(self.settings)
        if source is None and not given and not settings and place.definition.exists():
            source = place.definition
        known = read_definition(source) if source is not None else {}
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        if settings:
            given["settings"] = {**known.get("settings", {}), **checked({"settings": settings})["settings"]}
        return checked({**known, **given})

    def _refuse_another(self, place: Place, definition: dict[str, Any]) -> None:
        """Raises UsageError if the directory has another sweep, unless that is to change."""
        known = place.definition.exists() and not self.change
        if known and (differing := changes(read_definition(place.definition), definition)):
            said = "\n  ".join(differing)
            raise UsageError(
                f"{place.path} has another sweep:\n  {said}\nRepeat its command to go on with it, name another "
                "directory with --out, or give --change: trials of both keep what they have"
            )


def plan(trials: Sequence[Trial]) -> list[Planned]:
    """The trials with what their configurations say: so whatever is wrong is said before anything begins.

    Raises:
        UsageError: one of them cannot be trained. The message names it.
    """
    planned, made = [], set[str]()
    for trial in trials:
        try:
            config = _configure(trial)
            config.check()
            # Suites know their tasks. Whether there is another one is known once it has been made.
            if trial.task not in made and find_suite(trial.task) is custom.SUITE:
                make(config.env).close()
        except SystemExit as error:  # tyro has said what is wrong.
            said = f"the settings of {trial.name} are refused: {shlex.join(trial.setting_arguments)}"
            raise UsageError(said) from error
        except (EnvError, ValueError) as error:
            raise UsageError(f"{trial.name}: {error}") from error
        made.add(trial.task)
        limit = config.agent.budget.limit
        budgets = (limit if isinstance(limit, tuple) else (limit,)) if find_system(trial.agent).needs.budget else ()
        planned.append(Planned(trial, config.loop.length, tuple(map(float, budgets))))
    return planned


def _configure(trial: Trial) -> RunConfig:
    config = configure(
        trial.agent,
        trial.task,
        obs=trial.obs,
        preset_name=trial.preset,
        steps=trial.steps,
        cost_limit=(trial.budget[0] if len(trial.budget) == 1 else trial.budget) or None,
        seed=trial.seed,
    )
    return parse_settings(config, trial.setting_arguments, prog=trial.name, description="")


def _settings(words: Sequence[str]) -> dict[str, Any]:
    """``agent.horizon=[10, 15]`` as settings with their choices. A value is JSON, or else a word.

    Raises:
        UsageError: a word is no NAME=VALUE.
    """
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, _) in zip(words, pairs, strict=True):
        if not name or not equals:
            raise UsageError(
                f"{word!r} is not NAME=VALUE: write for example --settings agent.horizon=10 or 'agent.horizon=[10, 15]'"
            )
    return {name: json_or_string(value) for name, _, value in pairs}


def _dry(planned: Sequence[Planned], place: Place, resources: Resources, episodes: int) -> list[str]:
    lines = []
    for each in planned:
        run = place.directory(each.trial)
        commands = (each.trial.train(run), each.trial.evaluate(run, episodes))
        lines += [f"{each.trial.name}  ({each.length:,} steps)"]
        lines += [f"  prudence {shlex.join(arguments)}" for arguments in commands]
    each = f"{resources.cores} {'core' if resources.cores == 1 else 'cores'} and {resources.gpus:g} GPUs each"
    if resources.address is None:
        at_once = resources.local_cores // resources.cores
        each += f"; {at_once} at a time on this machine, {at_once * resources.cores} of its cores"
    return [*lines, f"{len(planned)} trials, {sum(p.length for p in planned):,} steps; {each}"]
