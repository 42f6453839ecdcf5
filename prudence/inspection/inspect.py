"""Inspection of an agent: its world model on recorded sequences, and its behaviour in episodes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from prudence.cores.base import Agent, Modelling
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.deploy.policy import load_run, require_known_task
from prudence.deploy.shipped import find_policy
from prudence.envs.base import EnvError, Layout
from prudence.envs.vector import make_vector
from prudence.inspection import calibration
from prudence.inspection import figures as inspection_figures
from prudence.inspection.anatomy import Anatomy, dissect
from prudence.inspection.calibration import Calibration, calibrate
from prudence.inspection.doubt import Doubt, draw_doubt, measure_doubt, record
from prudence.inspection.open_loop import Explained, Foresight, explain, measure
from prudence.inspection.sequences import recorded_sequences
from prudence.inspection.tables import FILE
from prudence.inspection.trace import Trace, trace_episodes
from prudence.inspection.video import open_loop_picture
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.runs.files import safe_name, write_text_atomically
from prudence.types import Batch, Key

_log = logging.getLogger(__name__)
_FUTURES = 8
_MORE = 4
"""Factor on the number of sequences for the calibration of costs, because costs are rare. They are also shorter."""


@dataclass(frozen=True)
class Inspection:
    """Results of an inspection.

    Attributes:
        foresight: accuracy for reward and costs over the lead; None for an agent without a world model.
        entries: explained variance by part of the observations.
        costs: calibration by constraint.
        doubts: doubt of the posterior by set of sequences; empty for an agent without a posterior over models.
        anatomy, traces: anatomy and traces of episodes; None and empty without episodes.
        pictures: paths of the images.
    """

    foresight: Foresight | None = None
    entries: Mapping[str, Explained] = field(default_factory=dict)
    costs: Mapping[str, Calibration] = field(default_factory=dict)
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    anatomy: Anatomy | None = None
    traces: tuple[Trace, ...] = ()
    pictures: tuple[Path, ...] = ()

    def numbers(self) -> dict[str, Any]:
        """All results except traces and images, as JSON-able values.

        Curves over the lead begin one decision ahead. Unknown and undefined values are None.
        """
        seen = self.foresight
        content = {
            "correlation": {} if seen is None else seen.correlation,
            "mean_cost": {} if seen is None else {"predicted": seen.predicted, "real": seen.real},
            "entries": {name: found._asdict() for name, found in self.entries.items()},
            "costs": {
                name: {kind: {str(n): x._asdict() for n, x in by.items()} for kind, by in found._asdict().items()}
                for name, found in self.costs.items()
            },
            "doubts": {name: vars(doubt) for name, doubt in self.doubts.items()},
            "episodes": None if self.anatomy is None else _anatomy_numbers(self.anatomy),
        }
        return _plain(content)


def inspect_run(
    directory: Path | str,
    *,
    key: Key,
    sequences: int = 128,
    context: int = 25,
    ahead: int = 45,
    against: str | None = None,
    data: Path | None = None,
    episodes: int = 0,
    seed: int = 0,
    trust: bool = False,
) -> Inspection:
    """Inspects the newest checkpoint of a run. Writes images and ``inspection.json`` into the run directory.

    It inspects the world model on recorded sequences, and the policy in episodes. The images are:

    * ``foresight.png``: reward and costs over the lead;
    * ``entries.png``: parts of the observations over the lead;
    * ``calibration.png``: predicted and real costs;
    * ``open_loop_<name>.png``: real and predicted frames of an image observation;
    * ``doubt.png``: disagreement and calibration of a posterior over models, on these sequences and on the same number
      of sequences of the task ``against``, in which the agent acts as in training;
    * ``episodes.png``: traps and costly events.

    Args:
        sequences: number of sequences. ``calibration.png`` uses four times as many shorter ones.
        context: decisions that the model filters.
        ahead: decisions that it then imagines.
        against: another task for ``doubt.png``.
        data: another run or a data set, whose sequences the model has not learned from
            (:func:`prudence.inspection.sequences.recorded_sequences`). None takes those of the run itself.
        episodes: number of episodes in an evaluation, with the agent's expectations at every decision; 0 runs none.
        seed: seed of that evaluation.
        trust: imports and calls what the run's files name: a task ``module:Class`` and a cost function.

    Raises:
        RunDirectoryError: as :func:`prudence.deploy.policy.load_run`, the run is training, or the directory is a
            recorded policy, which has no model to inspect.
        CheckpointError, CheckpointMismatch: as :func:`prudence.deploy.policy.load_run`.
        EnvError: the environment cannot be made, or is not safe to make
            (:func:`prudence.deploy.policy.require_known_task`).
        ValueError: a number is too small; the replay has no ``context + ahead`` consecutive steps without a new episode
            in the last ``ahead`` of them; the agent has no world model and no episodes are requested; or ``against`` is
            given, but there is no posterior over models or its spaces differ.
    """
    if min(sequences, context, ahead) < 1 or episodes < 0:
        raise ValueError(
            f"sequences={sequences}, context={context} and ahead={ahead} must be at least 1, and episodes={episodes} "
            "at least 0"
        )
    run, _ = find_policy(Path(directory))
    data = None if data is None else Path(data).absolute()  # An environment may change the working directory.
    config, agent, state, _ = load_run(run.path, trust=trust, parts="all")
    if not trust:
        require_known_task(run, config.env.task)
    if isinstance(agent, Modelling):
        found = _look(run, config, agent, state, data or run.path, (sequences, context, ahead), against, key)
    elif against is not None or not episodes:
        raise ValueError(f"{config.agent_name} has no world model to inspect")
    else:
        found = Inspection()
    if episodes:
        traces = tuple(trace_episodes(agent, state, config.env, episodes=episodes, seed=seed))
        picture = inspection_figures.draw_episodes(traces, dissect(traces), run.path / "episodes.png")
        found = replace(found, traces=traces, anatomy=dissect(traces), pictures=(*found.pictures, picture))
    write_text_atomically(run.path / FILE, json.dumps(found.numbers(), indent=1) + "\n")
    return found


def _look(
    run: RunDirectory,
    config: RunConfig,
    agent: Agent,
    state: Any,
    data: Path,
    sizes: tuple[int, int, int],
    against: str | None,
    key: Key,
) -> Inspection:
    """Inspects the world model on ``sizes`` = (sequences, context, ahead)."""
    sequences, context, ahead = sizes
    one_key, mean_key, cost_key, doubt_key = (jax.random.fold_in(key, i) for i in range(4))
    batch = recorded_sequences(data, agent.spaces, sequences, context, ahead)
    near = min(ahead, max(*calibration.LEADS, *calibration.SUMS))
    short = recorded_sequences(data, agent.spaces, _MORE * sequences, context, near)
    seen, report = measure(agent, state, batch, context=context, key=mean_key, samples=_FUTURES)
    one = agent.report(state, batch, key=one_key, context=context)
    entries = explain(one, report, _layout(config), context)
    costs = _calibrate(agent, state, short, context, cost_key)
    pictures = [
        inspection_figures.draw_foresight(seen, run.path / "foresight.png"),
        inspection_figures.draw_entries(entries, run.path / "entries.png"),
        inspection_figures.draw_calibration(costs, run.path / "calibration.png"),
    ]
    doubts = _doubts(config, agent, state, batch, sizes, against, doubt_key)
    if doubts:
        pictures.append(draw_doubt(doubts, run.path / "doubt.png"))
    for name, spec in agent.spaces.observations.items():
        if spec.is_image and f"prediction/{name}" in report:
            path = run.path / f"open_loop_{safe_name(name)}.png"
            truth, prediction = report[f"truth/{name}"][0], report[f"prediction/{name}"][0]
            pictures.append(open_loop_picture(truth, prediction, context, path))
    return Inspection(seen, entries, costs, doubts, pictures=tuple(pictures))


def _layout(config: RunConfig) -> Layout:
    """Layout of the environment's observations. It is empty if the environment cannot be made on this machine."""
    try:
        with closing(make_vector(config.env, 1, seed=0)) as envs:
            return envs.layout
    except EnvError as error:
        _log.warning("observations are not divided into parts, because their layout is unknown: %s", error)
        return {}


def _calibrate(agent: Agent, state: Any, batch: Batch, context: int, key: Key) -> dict[str, Calibration]:
    """Calibration of the mean of several imagined futures, which estimates the expectation of the model."""
    report = agent.report(state, batch, key=key, context=context, samples=_FUTURES)
    names = agent.spaces.costs if agent.spaces.num_costs > 1 else ("cost",)
    predicted, real = (report[f"{side}/cost"][:, context:].astype(np.float64) for side in ("prediction", "truth"))
    return calibrate(predicted, real, names)


def _doubts(
    config: RunConfig,
    agent: Agent,
    state: Any,
    batch: Batch,
    sizes: tuple[int, int, int],
    against: str | None,
    key: Key,
) -> dict[str, Doubt]:
    sequences, context, ahead = sizes
    if not isinstance(agent, Dreamer) or agent.config.uncertainty is None:
        if against is not None:
            raise ValueError(f"{config.agent_name} has no posterior over models, so `against` has nothing to compare")
        return {}
    sets = {"replay": batch}
    if against is not None:
        env = replace(config.env, task=against)
        sets[against] = record(agent, state, env, sequences=sequences, length=context + ahead, seed=config.seed)
    return {
        name: measure_doubt(agent, state, seen, context=context, key=jax.random.fold_in(key, i))
        for i, (name, seen) in enumerate(sets.items())
    }


def _anatomy_numbers(found: Anatomy) -> dict[str, Any]:
    return vars(found) | {
        "intervals": None if found.intervals is None else found.intervals._asdict(),
        "traps": None if found.traps is None else found.traps._asdict(),
        "events": [event._asdict() for event in found.events],
    }


def _plain(value: Any) -> Any:
    """Converts to JSON types: arrays become lists, and numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
