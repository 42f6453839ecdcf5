"""Evaluating a run for a person: progress, film, and the record it leaves in the run's directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from prudence.agents.base import Mode
from prudence.envs.vector import VectorEnv
from prudence.run.checkpoint import CheckpointMismatch
from prudence.run.directory import RunDirectory
from prudence.run.evaluate import Evaluation, evaluate_agent
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
) -> Evaluation:
    """Evaluates a run's newest policy and writes ``evaluation.json`` into the run.

    Raises:
        CheckpointMismatch: ``task`` is given and the run is of another one.
    """
    run = RunDirectory(Path(directory))
    config, agent, state, _ = load_run(run.path)
    if task is not None and task != config.env.task:
        raise CheckpointMismatch(
            f"{run.path} was trained on '{config.env.task}', not on '{task}': leave --task out, or train a run on that"
        )
    frames: list[np.ndarray] = []
    watch: Callable[[VectorEnv], None] | None = (lambda envs: frames.append(envs.render(0))) if video else None
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
            watch=watch,
            progress=lambda done: progress.update(bar, completed=done),
        )
    result.write(run.path / "evaluation.json")
    if frames:
        write_video(np.stack(frames), run.videos / "evaluation.mp4", fps=_FRAMES_PER_SECOND)
    return result
