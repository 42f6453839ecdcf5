"""Evaluating and simulating for a person: progress, film, and the record it leaves in the run's directory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from prudence.cores.base import Agent, Mode
from prudence.deploy.policy import load_run, require_known_task
from prudence.deploy.shipped import find_policy, output_directory
from prudence.evidence.evaluate import EPISODES, MOST_EPISODES, PARALLEL, Evaluation, Moment, evaluate_agent
from prudence.evidence.mpc_sim import SimulationConfig, simulate
from prudence.evidence.sequential import planned_looks
from prudence.inspection.plan_film import PlanRecorder, Shot, write_plan_film
from prudence.inspection.video import write_video
from prudence.run_config import RunConfig
from prudence.runs.checkpoint import CheckpointMismatch
from prudence.runs.config import write_config
from prudence.runs.console import text_console
from prudence.runs.directory import RunDirectory, RunDirectoryError
from prudence.runs.provenance import note_provenance

_FRAMES_PER_SECOND = 20


def evaluate_run(
    directory: Path | str,
    *,
    episodes: int | None = None,
    seed: int = 0,
    mode: Mode = "evaluate",
    task: str | None = None,
    video: bool = False,
    show_plan: bool = False,
    deadline: float | None = None,
    until_decided: bool = False,
    policy: str | None = None,
    out: Path | str | None = None,
    trust: bool = False,
    workers: int | None = None,
    tell: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """Evaluates a run's newest policy, or one that a record has, and writes ``evaluation.json``.

    Args:
        directory: of a run, a policy or a record (:func:`prudence.deploy.shipped.find_policy`).
        episodes: by default 20; 400 if ``until_decided``.
        until_decided: goes on until each budget is shown to hold or to be exceeded, for ``episodes`` at most.
        policy: which of a record's.
        out: where to write. By default the run, or :func:`prudence.deploy.shipped.output_directory` for a record.
        video: films the first episode, ``videos/evaluation.mp4``.
        show_plan: films what it was planned from too, ``videos/plan.mp4`` and ``plan.png``.
        deadline: seconds that a planner has for a decision.
        trust: imports and calls what the run's files name: a task ``module:Class`` and a cost function. (A ``task``
            that is given is trusted anyway.)
        workers: processes with one environment each; 0 for ten environments in this process. By default as in training
            (:meth:`prudence.loops.OnlineLoop.evaluation_processes`).
        tell: is called with the evaluation before anything is written, so that a full disk does not lose it.

    Raises:
        CheckpointMismatch: ``task`` is given and the run is of another one.
        EnvError: the task is not safe to make (:func:`prudence.deploy.policy.require_known_task`).
        RunDirectoryError: there is no such policy, or ``out`` holds another run or a record.
        ValueError: ``show_plan`` or a ``deadline`` is asked of an agent that does not act by plans, or both at once; or
            nothing can be decided: too few episodes, no budget, or a deadline; or a record's policy is to explore.
    """
    if episodes is None:
        episodes = MOST_EPISODES if until_decided else EPISODES
    if until_decided:
        _check_decidable(episodes, deadline)
    run, _ = find_policy(Path(directory), policy)
    target = place_for(run, out)
    if run.ships and mode != "evaluate":
        raise ValueError(
            f"{run.path} keeps what is evaluated, not the networks that training explored with: leave --explore out, "
            "or evaluate the run itself"
        )
    config, agent, state, _ = load_run(run.path, trust=trust, parts="acting" if mode == "evaluate" else "all")
    if task is not None and task != config.env.task:
        raise CheckpointMismatch(
            f"{run.path} was trained on '{config.env.task}', not on '{task}': leave --task out, or train a run on that"
        )
    if task is None and not trust:
        require_known_task(run, config.env.task)
    if show_plan and deadline is not None:
        raise ValueError("plans are shown as they are without a deadline: leave --show-plan or --deadline out")
    frames: list[np.ndarray] = []
    recorder = PlanRecorder(agent, state, mode) if show_plan else None

    def watch(moment: Moment) -> None:
        if video:
            frames.append(moment.envs.render(0))
        if recorder is not None:
            recorder(moment)

    console = text_console(stderr=True)
    show_look = lambda decisions: console.print("; ".join(found.verdict for found in decisions))
    parallel, workers = (workers or PARALLEL, workers) if workers is not None else _as_trained(config)
    with progress_bar("evaluating", episodes, console) as show:
        result = evaluate_agent(
            agent,
            state,
            config.env,
            episodes=episodes,
            seed=seed,
            mode=mode,
            parallel=parallel,
            workers=workers,
            deadline=deadline,
            until_decided=until_decided,
            watch=watch if video or show_plan else None,
            progress=show,
            looked=show_look,
        )
    if tell is not None:
        tell(result)
    target.path.mkdir(parents=True, exist_ok=True)
    _write(target, result, frames)
    if recorder is not None:
        _show_plans(target, recorder.shots, result, agent)
    return result


def _as_trained(config: RunConfig) -> tuple[int, int]:
    """The number of environments that are stepped together, and of their processes."""
    return config.loop.evaluation_processes(PARALLEL)


def place_for(run: RunDirectory, out: Path | str | None) -> RunDirectory:
    """Where an evaluation of ``run`` is written: ``out``, or its own place.

    Raises:
        RunDirectoryError: ``out`` holds another run or a record, whose own evaluation would be lost.
    """
    target = RunDirectory(output_directory(run) if out is None else Path(out))
    own = not run.ships and target.path.resolve() == run.path.resolve()
    if not own and (target.exists or target.is_record):
        what = "a record" if target.is_record else "a policy" if target.ships else "a run"
        raise RunDirectoryError(f"{target.path} holds {what}, whose evaluation would be lost: name another --out")
    return target


def _check_decidable(episodes: int, deadline: float | None) -> None:
    planned_looks(episodes)
    if deadline is not None:
        raise ValueError(
            "episodes by a deadline depend on the clock, so that what they decide could not be repeated: leave "
            "--until-decided out and give --episodes, or leave --deadline out"
        )


def simulate_run(
    config: SimulationConfig,
    directory: Path | str,
    *,
    video: bool = False,
    tell: Callable[[Evaluation], None] | None = None,
) -> tuple[Evaluation, float]:
    """Plans in the true simulator, and writes a directory like a run's: ``config.json``, ``provenance.json`` and
    ``evaluation.json``. Returns the evaluation, and decisions a second.

    Args:
        tell: is called with the evaluation before anything is written, so that a full disk does not lose it.

    Raises:
        RunDirectoryError: the directory holds a run already.
    """
    run = RunDirectory(Path(directory))
    if run.exists:
        raise RunDirectoryError(f"{run.path} holds a run already: name another directory with --out")
    frames: list[np.ndarray] = []
    console, start = text_console(stderr=True), time.monotonic()
    with progress_bar("simulating, episodes", config.episodes, console) as show:

        def progress(finished: int, share: float) -> None:
            show(finished + share)
            if finished and not share:
                each = (time.monotonic() - start) / finished
                left = f"about {each * (config.episodes - finished) / 60:.0f} min left"
                console.print(f"episode {finished} of {config.episodes} after {each * finished:.0f} s, {left}")

        result = simulate(config, watch=frames.append if video else None, progress=progress)
    rate = float(result.lengths.sum()) / (time.monotonic() - start)
    if tell is not None:
        tell(result)
    with run.lock():
        write_config(run.config, config)
        note_provenance(run.path)
        _write(run, result, frames)
    return result, rate


@contextlib.contextmanager
def progress_bar(what: str, total: int, console: Console) -> Iterator[Callable[[float], None]]:
    """On a terminal, a bar with the time remaining; yields what to tell how much of ``total`` is done."""
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done: progress.update(bar, completed=done)


def _write(run: RunDirectory, result: Evaluation, frames: list[np.ndarray]) -> None:
    result.write(run.evaluation)
    if frames:
        write_video(frames, run.videos / "evaluation.mp4", fps=_FRAMES_PER_SECOND)


def _show_plans(run: RunDirectory, shots: list[Shot], result: Evaluation, agent: Agent) -> None:
    console = text_console(stderr=True)
    if shots[0].paths is None:
        console.print(
            "The plans' paths are not drawn: the model predicts no velocity and turning rate of the robot, as it does "
            "from lidar or coordinates, or the environment has no view from above"
        )
    assert result.budgets is not None
    assert agent.spaces.episode_steps is not None
    film, still = run.videos / "plan.mp4", run.path / "plan.png"
    with console.status(f"drawing {len(shots)} decisions"):
        write_plan_film(shots, film, still, budgets=result.budgets, episode_steps=agent.spaces.episode_steps)
    console.print(f"plans: {film} and {still}")
