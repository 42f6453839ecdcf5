"""mpc-sim: its search against a simulator whose best plan is known, its episodes, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.cli.main import main
from prudence.envs.base import EnvConfig, EnvError, Outcome
from prudence.envs.vector import episode_seed, make_vector
from prudence.evidence.evaluate import episode_seeds
from prudence.evidence.mpc_sim import SimulatedPlanning, SimulationConfig, decide, forecast, simulate
from prudence.evidence.plot import raw_config
from prudence.planners import CrossEntropy
from prudence.runs.config import read_config

SMALL = CrossEntropy(horizon=3, plans=8, elites=2, iterations=2)


def test_a_plan_is_worth_its_rewards_and_costs_an_episode_that_goes_on_like_it():
    rewards = np.array([[1.0, 2.0], [0.0, -1.0]])
    costs = np.array([[[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 3.0]]])
    worth = forecast(Outcome(rewards, costs), episode_steps=10)
    np.testing.assert_array_equal(worth.score, [3.0, -1.0])
    # T/H = 5, times the sums over two decisions: of (0, 1) and (1, 1), and of (0, 0) and (0, 3).
    np.testing.assert_array_equal(worth.cost, [[5.0, 10.0], [0.0, 15.0]])


def lane(plans):
    """A point on a line, pushed by its actions: reward is the way it makes, cost being beyond 0.5."""
    place = np.cumsum(plans[..., 0], axis=1)
    return Outcome(plans[..., 0].astype(np.float64), (place > 0.5).astype(np.float64)[..., None])


@pytest.mark.parametrize(("limit", "end"), [(0.0, 0.5), (100.0, 3.0)])
def test_the_search_goes_as_far_as_the_budget_allows(limit, end):
    search = CrossEntropy(horizon=3, plans=200, elites=20, iterations=8)
    last = jnp.full((3, 1), -1.0)  # Forgotten, since an episode begins.
    action, plan = decide(search, lane, jnp.array([limit]), 100, last, jnp.asarray(True), key=jax.random.key(0))
    assert float(plan.sum()) == pytest.approx(end, abs=0.15)
    np.testing.assert_array_equal(action, plan[0])


def test_the_executed_plan_is_simulated_if_it_is_to_be_checked_and_a_search_may_end_early():
    rolled = []

    def roll(plans):
        rolled.append(len(plans))
        return lane(plans)

    search = CrossEntropy(horizon=3, plans=20, elites=2, iterations=8, min_iterations=2, execute="checked")
    first = (jnp.zeros((3, 1)), jnp.asarray(True))
    _, plan = decide(search, roll, jnp.zeros(1), 100, *first, key=jax.random.key(0))
    assert rolled == [20, 20, 4]  # The mean, the best plan and two elites.
    assert float(lane(np.asarray(plan)[None]).costs.sum()) == 0


def test_episodes_are_those_of_an_evaluation():
    """Thirteen episodes on ten environments: the first three run two each, and results are by environment."""
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), *((i, 0) for i in range(3, 10))]
    assert episode_seeds(13, seed=7) == [episode_seed(1_000_007, i, k) for i, k in pairs]
    envs = make_vector(EnvConfig("probe/cost"), 3, seed=1_000_007)
    envs.reset()
    assert episode_seeds(3, seed=7) == [envs._episode_seed(i) for i in range(3)]
    envs.close()


def test_tasks_without_a_simulator_of_the_suite_are_refused():
    with pytest.raises(EnvError, match=r"probe/cost cannot be rolled out.*only with Safety-Gymnasium's tasks"):
        simulate(SimulationConfig(EnvConfig("probe/cost")))


@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning:safety_gymnasium")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning:gymnasium")
def test_episodes_repeat_and_report_how_far_they_are():
    pytest.importorskip("mujoco")
    env = EnvConfig("SafetyPointGoal1-v0", action_repeat=2, time_limit=6)
    config, told = SimulationConfig(env, SimulatedPlanning(SMALL, 3.0), episodes=2), []
    found = simulate(config, progress=lambda *at: told.append(at))
    np.testing.assert_allclose(told, [(0, 1 / 3), (0, 2 / 3), (1, 0), (1, 1 / 3), (1, 2 / 3), (2, 0)])
    assert (found.returns.shape, found.costs.shape, found.budgets) == ((2,), (2, 1), (3.0,))
    np.testing.assert_array_equal(found.lengths, 3)
    np.testing.assert_array_equal(simulate(config).returns, found.returns)
    with pytest.raises(ValueError, match="2 budgets are named, but the environment reports 1 costs: cost"):
        simulate(SimulationConfig(env, SimulatedPlanning(SMALL, (1.0, 2.0))))


@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning:safety_gymnasium")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning:gymnasium")
@pytest.mark.slow
def test_the_command_leaves_a_directory_that_can_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    command = ["simulate", "--task", "SafetyPointCircle1-v0", "--action-repeat", "100", "--episodes", "2"]
    sizes = ["--plans", "4", "--horizon", "2", "--iterations", "1", "--cost-limit", "5"]
    assert main([*command, *sizes]) == 0
    said = capsys.readouterr()
    run = Path("runs/mpc-sim-SafetyPointCircle1-v0-0")
    assert "SafetyPointCircle1-v0: 2 episodes" in said.out
    assert "budget 5: " in said.out
    assert f"decisions/s; written to {run}" in said.out
    assert "episode 2 of 2" in said.err
    config = read_config(run / "config.json", SimulationConfig)
    assert (config.agent.search.plans, config.agent.cost_limit, config.env.action_repeat) == (4, 5.0, 100)
    assert raw_config(run)["agent_name"] == "mpc-sim"
    assert main(["record", str(run), "--out", "kept"]) == 0
    [kept] = json.loads(Path("kept/result.json").read_text())["runs"]
    assert (kept["raw_steps"], kept["curves"], len(kept["evaluation"]["returns"])) == (None, {}, 2)
    assert main([*command, *sizes]) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_it_is_named_where_one_looks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "mpc-sim" in capsys.readouterr().out
    assert main(["train", "mpc-sim"]) == 2
    assert "does not learn, it plans in the true simulator: prudence simulate" in capsys.readouterr().err
