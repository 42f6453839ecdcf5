"""SafeReach: a robot reaches for a target among obstacles that it must not touch (docs/environments/reach.md).

This package registers ``TASKS`` in Gymnasium when it is imported. It imports MuJoCo when a task is made.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import gymnasium as gym

from prudence.envs import wrappers
from prudence.envs.base import EnvConfig, EnvError, Suite, SuiteOptions, check
from prudence.envs.reach.task import VARIANTS
from prudence.envs.sensors import Quality
from prudence.ranges import between

OBSERVATIONS = ("coordinates", "vision")
TIME_LIMIT = 80
"""Number of raw steps in an episode (FOSP, section 5.3)."""
TASKS = tuple(VARIANTS)

for _id in TASKS:
    if _id not in gym.registry:  # The module may be imported twice by a process that spawns workers.
        gym.register(_id, "prudence.envs.reach.env:ReachEnv", kwargs={"task": _id})  # It truncates itself.

INSTALL = "pip install 'mujoco>=4.0'"
PANDA = "pip install --no-deps gymnasium-robotics==1.4.2"
"""Installs the package whose files of the Panda are used. Nothing of it is imported, so it needs nothing else."""

RobotName = Literal["auto", "panda", "hand"]
Actions = Literal["pose", "position"]
Reward = Literal["sparse", "dense"]


def find_panda() -> Path | None:
    """The folder with the Panda's model in gymnasium-robotics. None if that is not installed."""
    package = importlib.util.find_spec("gymnasium_robotics")
    for place in (package and package.submodule_search_locations) or ():
        folder = Path(place) / "envs" / "assets" / "kitchen_franka" / "franka_assets"
        if folder.is_dir():
            return folder
    return None


@dataclass(frozen=True)
class ReachOptions(SuiteOptions):
    """Options of SafeReach.

    Attributes:
        robot: ``panda``: a Franka Emika Panda, whose files gymnasium-robotics has; ``hand``: a hand without an arm;
            ``auto``: the Panda where its files are, else the hand. It is replaced by the one it stands for, so that a
            run keeps its robot.
        actions: ``pose``: changes of position and of rotation; ``position``: of position only.
        reward: ``sparse``: 1 for every raw step in which the target is touched; ``dense``: 10 for every metre nearer to
            it, too.
        image_size: height and width of the picture of ``vision``.
        quality: ``fast`` leaves out multisampling and shadows.

    Raises:
        EnvError: a value is not allowed.
    """

    robot: RobotName = "auto"
    actions: Actions = "pose"
    reward: Reward = "sparse"
    image_size: Annotated[int, between(8, 4096)] = 64
    quality: Quality = "fast"

    def __post_init__(self) -> None:
        words = {"robot": RobotName, "actions": Actions, "reward": Reward, "quality": Quality}
        for name, known in words.items():
            value, choices = getattr(self, name), get_args(known)
            check("ReachOptions", value in choices, f"{name}={value!r}: choose one of {', '.join(choices)}")
        check("ReachOptions", self.image_size >= 8, f"image_size={self.image_size} must be at least 8")
        if self.robot == "auto":
            object.__setattr__(self, "robot", "hand" if find_panda() is None else "panda")


def make(config: EnvConfig) -> gym.Env:
    """Makes the task of ``config``.

    Raises:
        EnvError: MuJoCo is not installed, or the Panda's files are not. The message has the command that installs them.
    """
    try:
        from prudence.envs.reach.env import ReachEnv  # Simulators are imported when they are used.
    except ImportError as error:
        raise EnvError(f"{config.task} needs MuJoCo ({error}). Install it with\n{INSTALL}") from error
    assert isinstance(config.options, ReachOptions)
    env = ReachEnv(
        config.task,
        obs=config.obs,
        action_repeat=config.action_repeat,
        time_limit=config.time_limit or TIME_LIMIT,
        **dataclasses.asdict(config.options),
        **config.arguments,
    )
    return wrappers.Costs(env, config.task, config.costs)


SUITE = Suite(
    name="SafeReach",
    summary="a robot's hand that reaches for a target among obstacles (docs/environments/reach.md)",
    tasks=TASKS,
    example="SafeReach-v0",
    make=make,
    observations=OBSERVATIONS,
    options=ReachOptions,
    arguments=("render_mode", "render_size"),
    robots=("panda", "hand"),
    package="mujoco",
    install=INSTALL,
)
