"""Evaluating a run for a person: progress, film, and the record it leaves in the run's directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from prudence.agents.base import Agent, Mode
from prudence.run.checkpoint import CheckpointMismatch
from prudence.run.directory import RunDirectory
from prudence.run.evaluate import Evaluation, Moment, evaluate_agent
from prudence.run.plan_film import PlanRecorder, Shot, write_plan_film
from prudence.run.policy import load_run
from prudence.run.video import write_video

_FRAMES_PER_SECOND = 20


def evaluate_run(
    directory: Path | str,
    *,
    episodes: int = 20,
    seed: int = 0,
    mode: Mode = "evaluate",
    task: str | None = None,
    video: bool = False,
    show_plan: bool = False,
) -> Evaluation:
    """Evaluates a run's newest policy and writes ``evaluation.json`` into the run.

    Args:
        video: films the first episode, ``videos/evaluation.mp4``.
        show_plan: films what it was planned from too, ``videos/plan.mp4`` and ``plan.png``.

    Raises:
        CheckpointMismatch: ``task`` is given and the run is of another one.
        ValueError: ``show_plan`` is asked of an agent that does not act by plans.
    """
    run = RunDirectory(Path(directory))
    config, agent, state, _ = load_run(run.path)
    if task is not None and task != config.env.task:
        raise CheckpointMismatch(
            f"{run.path} was trained on '{config.env.task}', not on '{task}': leave --task out, or train a run on that"
        )
    frames: list[np.ndarray] = []
    recorder = PlanRecorder(agent, state) if show_plan else None

    def watch(moment: Moment) -> None:
        if video:
            frames.append(moment.envs.render(0))
        if recorder is not None:
            recorder(moment)

    columns = ("evaluating", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=episodes)
        result = evaluate_agent(
            agent,
            state,
            config.env,
            episodes=episodes,
            seed=seed,
            mode=mode,
            watch=watch if video or show_plan else None,
            progress=lambda done: progress.update(bar, completed=done),
        )
    result.write(run.path / "evaluation.json")
    if frames:
        write_video(frames, run.videos / "evaluation.mp4", fps=_FRAMES_PER_SECOND)
    if recorder is not None:
        _show_plans(run, recorder.shots, result, agent, console)
    return result


def _show_plans(run: RunDirectory, shots: list[Shot], result: Evaluation, agent: Agent, console: Console) -> None:
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
