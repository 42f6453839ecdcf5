"""Every preset builds, for every agent and kind of observation (shapes only: nothing large is computed)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import jax
import pytest
import toys
from golden import configurations

from prudence.cli.api import configure
from prudence.constraints import Unconstrained
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.uncertainty import UncertaintyConfig
from prudence.cores.fosp.config import FospConfig
from prudence.cores.latent_sac import LatentSACConfig
from prudence.cores.lookahead import LookaheadConfig
from prudence.cores.on_policy.model_based import ModelBasedConfig
from prudence.cores.on_policy.on_policy import OnPolicyConfig
from prudence.cores.sac import SACConfig
from prudence.envs.base import EnvConfig, EnvError
from prudence.models.swag import SWAG
from prudence.presets import PRESETS, preset
from prudence.systems import SYSTEMS, find_system
from prudence.types import ObservationSpec

LIDAR = toys.spaces(("lidar", ObservationSpec((60,), "float32")), steps=1000)
VISION = toys.spaces(("vision", ObservationSpec((64, 64, 3), "uint8")), steps=1000)


def configured(name: str, agent: str, obs: str):
    config = preset(name, agent, EnvConfig("SafetyPointGoal1-v0", obs=(obs,)))
    spaces = LIDAR if obs == "lidar" else VISION
    if config.env.spent:
        spaces = replace(spaces, observation=(*spaces.observation, ("spent", ObservationSpec((1,), "float32"))))
    if getattr(config.agent, "privileged", None) is not None:
        privileged = ("privileged", ObservationSpec((24,), "float32"))
        spaces = replace(spaces, observation=(*spaces.observation, privileged), privileged=("privileged",))
    return config, find_system(agent).agent(spaces, config.agent), spaces


def presets_of(agent: str) -> list[str]:
    lacking = {
        DreamerConfig: ("suite",),
        FospConfig: ("suite", "comparison"),
        OnPolicyConfig: ("gpu", "comparison"),
        SACConfig: ("gpu", "comparison", "suite"),
        ModelBasedConfig: ("gpu", "comparison", "suite"),
        LatentSACConfig: ("gpu", "comparison", "suite"),
        LookaheadConfig: ("gpu", "comparison", "suite"),
    }[SYSTEMS[agent].config]
    return [name for name in PRESETS if name not in lacking]


def seen_by(agents: Iterable[str]) -> list[tuple[str, str]]:
    """The agents and the kinds of observation that they can learn from."""
    vectors = (SACConfig, ModelBasedConfig, LookaheadConfig)
    sees = lambda agent: ("lidar",) if SYSTEMS[agent].config in vectors else ("lidar", "vision")
    return [(agent, obs) for agent in agents for obs in sees(agent)]


@pytest.mark.parametrize(("agent", "obs"), seen_by(SYSTEMS))
def test_every_preset_is_accepted(agent, obs):
    for name in presets_of(agent):
        config, _, _ = configured(name, agent, obs)
        assert config.agent_name == agent
        if isinstance(config.agent, DreamerConfig):
            constrained = agent.startswith(("safedreamer", "asymdreamer")) or agent in ("lambda", "lambda-greedy")
            assert isinstance(config.agent.constraint, Unconstrained) or constrained
            assert (config.agent.uncertainty is not None) == agent.startswith("lambda")


def kind(agent: str) -> tuple:
    """What the state that a core begins with is made of; systems that differ in nothing else begin alike."""
    config = preset("debug", agent, EnvConfig("SafetyPointGoal1-v0")).agent
    parts = [type(getattr(config, part, None)) for part in ("constraint", "planning", "uncertainty", "privileged")]
    return type(config), *parts, getattr(getattr(config, "privileged", None), "critics_see", None)


@pytest.mark.parametrize(("agent", "obs"), seen_by({kind(agent): agent for agent in SYSTEMS}.values()))
def test_builds(agent, obs):
    for name in presets_of(agent):
        _, built, _ = configured(name, agent, obs)
        state = jax.eval_shape(lambda key, built=built: built.init(key=key), jax.random.key(0))
        assert state.step.shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["safedreamer-bsrp-lag", "asymdreamer", "lambda", "fosp"])
@pytest.mark.parametrize(("name", "obs"), [("cpu", "lidar"), ("paper", "vision"), ("gpu", "lidar")])
def test_updates_and_acts(name, obs, agent):
    config, built, spaces = configured(name, agent, obs)
    state = jax.eval_shape(lambda key: built.init(key=key), jax.random.key(0))
    shapes = jax.eval_shape(lambda: toys.batch(spaces, 1, config.loop.batch_size, config.loop.batch_length))
    after, metrics = jax.eval_shape(lambda s, b, k: built.update(s, b, key=k), state, shapes, jax.random.key(1))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {m.shape for m in metrics.values()} == {()}


def test_unknown_names_are_answered_with_the_known_ones():
    env = EnvConfig("SafetyPointGoal1-v0")
    with pytest.raises(ValueError, match="unknown preset 'huge': choose from debug, cpu, paper, gpu, comp"):
        preset("huge", "dreamerv3", env)
    with pytest.raises(ValueError, match="dreamerv3 has no preset 'suite'"):
        preset("suite", "dreamerv3", env)
    with pytest.raises(ValueError, match="unknown agent 'trpo': choose from safedreamer-bsrp-lag"):
        preset("debug", "trpo", env)
    with pytest.raises(ValueError, match="unknown agent 'trpo'"):
        find_system("trpo")
    with pytest.raises(ValueError, match="ppo is configured by an OnPolicyConfig, not by a DreamerConfig"):
        find_system("ppo").agent(LIDAR, toys.debug_config())


def test_lambdas_paper_preset_is_table_1():
    agent, loop = (c := configured("paper", "lambda", "vision")[0]).agent, c.loop
    assert (loop.batch_size, loop.batch_length, c.env.action_repeat, agent.budget.limit) == (32, 50, 2, 25.0)
    assert (agent.discount, agent.budget.discount, agent.lambda_, agent.horizon) == (0.99, 0.995, 0.95, 15)
    assert agent.uncertainty == UncertaintyConfig(SWAG(5, burn_in=500, period=200, deviations=20, decay=0.8))
    rates = [o.learning_rate for o in (agent.model_optimiser, agent.actor_optimiser, agent.cost_critic.optimiser)]
    assert rates == [1e-4, 8e-5, 2e-4]
    # Costs of two raw steps at the most, and of four in SafeDreamer's comparison.
    assert agent.world_model.cost.bernoulli_scale == 2.0
    compared = configured("comparison", "lambda", "vision")[0]
    assert (compared.env.action_repeat, compared.agent.budget.limit) == (4, 2.0)
    assert compared.agent.world_model.cost.bernoulli_scale == 4.0
    # 100 updates, and 5,000 random steps at first, for 1,000 and 5,000 raw steps.
    for c in (configured("paper", "lambda", "vision")[0], compared):
        assert c.loop.updates_per_decision * 1000 / c.env.action_repeat == 100
        assert c.loop.prefill * c.env.action_repeat == 5000


def test_every_agent_is_described():
    assert all(system.summary and system.paper and system.name == name for name, system in SYSTEMS.items())


def test_a_run_that_ends_before_its_plans_begin_is_refused():
    config, _, spaces = configured("cpu", "safedreamer-osrp-lag", "lidar")
    # 1,000 decisions first, then 8,700 updates at .3 a decision, five raw steps each.
    assert config.planning_starts == 5 * (1000 + 29_000)
    assert config.make_agent(spaces).run_updates == config.run_updates == 0.3 * (300_000 / 5 - 1000)
    short = replace(config, loop=replace(config.loop, steps=150_000))
    with pytest.raises(
        ValueError, match=r"acts with its planner from 150,000 steps on, but this run ends at 150,000: "
    ):
        short.make_agent(spaces)
    assert configured("cpu", "safedreamer-bsrp-lag", "lidar")[0].planning_starts is None
    assert configured("debug", "safedreamer-osrp", "lidar")[0].planning_starts == 0


def test_costs_count_from_the_same_decision_on():
    """So that runs can be compared, though SAC learns more often."""

    def begin(agent: str, obs: str) -> float:
        config = configured("cpu", agent, obs)[0]
        updates = config.agent.budget.start + getattr(config.agent, "pretraining", 0)
        return config.loop.progress_at(updates, config.env.action_repeat)

    expected = begin("safedreamer-bsrp-lag", "lidar")
    assert begin("sac-lag", "lidar") == pytest.approx(expected, rel=0.01)
    assert begin("safe-slac", "vision") == pytest.approx(expected, rel=0.01)


def test_the_papers_pictures_have_two_cameras():
    for agent in ("safedreamer-osrp", "dreamerv3", "asymdreamer"):
        config = configured("paper", agent, "vision")[0]
        assert (config.env.options.cameras, config.env.action_repeat) == ("both", 4)
    assert configured("paper", "lambda", "vision")[0].env.options.cameras == "front"


@pytest.mark.parametrize(("agent", "updates"), [("safedreamer-bsrp-lag", 4200), ("ppo", 9)])
def test_schedules_are_of_the_run_that_is_asked_for(agent, updates):
    """`--steps` comes after the preset, and prices, cooldowns and learning rates follow it."""
    config = configure(agent, "SafetyPointGoal1-v0", steps=75_000)
    spaces = LIDAR if agent != "ppo" else toys.spaces()
    assert config.make_agent(spaces).run_updates == updates


def test_an_explicit_choice_of_the_environment_wins_over_the_presets():
    of = lambda **env: configure("safedreamer-bsrp-lag", "SafetyPointGoal1-v0", **env).env
    assert (of().options.lidar_scale, of().action_repeat) == ("inverse", 5)
    assert (of(lidar_scale="linear").options.lidar_scale, of(action_repeat=2).action_repeat) == ("linear", 2)


def test_a_preset_chooses_options_where_the_suite_has_them():
    for name in ("cpu", "paper", "debug"):
        assert preset(name, "safedreamer-bsrp-lag", EnvConfig("probe/cost")).env.options is None
    with pytest.raises(
        EnvError, match="'lidar_scale', which tasks of Safety-Gymnasium and Quadrotor have: leave it out"
    ):
        configure("safedreamer-bsrp-lag", "probe/cost", lidar_scale="linear")


def test_no_configuration_moves_unnoticed():
    kept, found = configurations.whole(json.loads(configurations.FILE.read_text())), configurations.configurations()
    assert list(found) == list(kept)
    moved = {name: changes for name in kept if (changes := configurations.differences(kept[name], found[name]))}
    assert not moved, "on purpose? python tests/golden/configurations.py keeps them anew"
