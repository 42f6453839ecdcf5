"""The file of a sweep, and what trials it means."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from prudence.sweeps.definition import SweepError, changes, checked, expand, read_definition, varied, write_definition
from prudence.sweeps.trial import Trial

ROOT = Path(__file__).parents[2]
NEEDS_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
# Ray's own code, on import.
QUIET = pytest.mark.filterwarnings("ignore")


def trials(text: str) -> list[Trial]:
    return expand(checked(tomllib.loads(text)))


def test_one_of_everything_is_one_trial() -> None:
    assert trials('agents = "ppo"\ntasks = "probe/cost"') == [Trial("ppo", "probe/cost")]


def test_all_combinations() -> None:
    """2 tasks × 2 observations (one of them two at once) × 2 budgets × 2 × 1 values × 2 seeds = 32 trials."""
    found = trials("""
        agents = ["ppo-lag"]
        tasks = ["SafetyPointGoal1-v0", "SafetyCarGoal1-v0"]
        obs = ["lidar", ["lidar", "vision"]]
        budgets = [2, 25.0]
        seeds = [0, 1]
        preset = "debug"
        steps = 100
        [settings]
        agent.discount = [0.9, 0.99]
        agent.cnn-depth = 2
    """)
    assert len(found) == 32
    chosen = (("agent.discount", 0.9), ("agent.cnn_depth", 2))
    assert found[0] == Trial("ppo-lag", "SafetyPointGoal1-v0", "debug", ("lidar",), (2.0,), 100, 0, chosen)
    assert found[1] == Trial("ppo-lag", "SafetyPointGoal1-v0", "debug", ("lidar",), (2.0,), 100, 1, chosen)
    last = (("agent.discount", 0.99), ("agent.cnn_depth", 2))
    assert found[-1] == Trial("ppo-lag", "SafetyCarGoal1-v0", "debug", ("lidar", "vision"), (25.0,), 100, 1, last)
    assert len({trial.name for trial in found}) == 32
    assert varied(found) == ["agent.discount"]


def test_budgets_are_for_agents_that_have_one() -> None:
    found = trials('agents = ["ppo", "ppo-lag"]\ntasks = "probe/cost"\nbudgets = [2, 25]')
    assert [(trial.agent, trial.budget) for trial in found] == [("ppo", ()), ("ppo-lag", (2.0,)), ("ppo-lag", (25.0,))]


def test_what_an_agent_has_of_its_own_wins() -> None:
    found = trials("""
        agents = [
            "ppo",
            { name = "ppo-lag", tasks = "probe/conflict", budgets = [[1, 2]], steps = 5, settings = { agent.a = 3 } },
        ]
        tasks = "probe/cost"
        seeds = [4]
        steps = 9
        settings = { agent.a = [1, 2], agent.b = true }
    """)
    assert [(t.agent, t.task, t.budget, t.steps, dict(t.settings)) for t in found] == [
        ("ppo", "probe/cost", (), 9, {"agent.a": 1, "agent.b": True}),
        ("ppo", "probe/cost", (), 9, {"agent.a": 2, "agent.b": True}),
        ("ppo-lag", "probe/conflict", (1.0, 2.0), 5, {"agent.a": 3, "agent.b": True}),
    ]
    assert all(trial.seed == 4 for trial in found)


def test_a_list_in_the_list_is_a_setting_of_several_values() -> None:
    [trial] = trials('agents = "ppo"\ntasks = "t"\nsettings = { env.names = [["a", "b"]] }')
    assert trial.settings == (("env.names", ("a", "b")),)


def test_the_first_table() -> None:
    """8 tasks × (dreamerv3, which has no budget; two budgets; one budget) = 32."""
    found = expand(read_definition(ROOT / "benchmarks" / "first_table.toml"))
    assert len(found) == 8 * 4
    assert [(t.agent, t.budget) for t in found if t.task == "SafetyDoggoGoal1-v0"] == [
        ("dreamerv3", ()),
        ("safedreamer-bsrp-lag", (2.0,)),
        ("safedreamer-bsrp-lag", (25.0,)),
        ("ppo-lag", (25.0,)),
    ]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    definition = checked(
        tomllib.loads("""
        agents = ["ppo", { name = "ppo-lag", budgets = [2, 25.5] }]
        tasks = ['a "quoted" \\ täsk']
        search = 3
        asha = true
        [settings]
        agent.rate = { loguniform = [1e-5, 1e-3] }
        env.kwargs = [true, "x", 1e-7]
    """)
    )
    path = tmp_path / "sweep.toml"
    path.write_text(write_definition(definition), encoding="utf-8")
    assert read_definition(path) == definition
    assert changes(definition, definition) == []
    assert changes(definition, {**definition, "search": 4, "seeds": [1]}) == [
        "seeds: nothing there, [1] now",
        "search: 3 there, 4 now",
    ]


@NEEDS_RAY
@QUIET
def test_samples_of_ranges() -> None:
    text = """
        agents = ["ppo", "ppo-lag"]
        tasks = "probe/cost"
        [settings]
        agent.a = { uniform = [0.5, 1.0] }
        agent.b = { randint = [1, 4] }
        agent.c = [1, 2]
        agent.d = { choice = ["x", "y"] }
        agent.e = { loguniform = [1e-4, 1e-2] }
    """
    few, more = trials(f"search = 3\n{text}"), trials(f"search = 5\n{text}")
    assert (len(few), len(more)) == (2 * 2 * 3, 2 * 2 * 5)
    assert {trial.name for trial in few} <= {trial.name for trial in more}, "a larger search adds samples"
    points = [{k: v for k, v in trial.settings if k != "agent.c"} for trial in few]
    assert points[:3] == points[3:6] == points[6:9], "each choice and agent is tried with the same samples"
    for point in points:
        assert 0.5 <= point["agent.a"] <= 1.0
        assert point["agent.b"] in (1, 2, 3)
        assert point["agent.d"] in ("x", "y")
        assert 1e-4 <= point["agent.e"] <= 1e-2
        assert point["agent.a"] == float(f"{point['agent.a']:.4g}")
    assert few != trials(f"search = 3\nsearch_seed = 1\n{text}")
    assert few == trials(f"search = 3\nsearch_seed = 0\n{text}")


GOOD = {"agents": ["ppo"], "tasks": ["probe/cost"]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"agents": ["ppo"]}, "tasks are missing: write tasks ="),
        ({"tasks": ["probe/cost"]}, "agents are missing: write agents ="),
        ({**GOOD, "task": "x"}, "task: a sweep has no such key. It has agents, tasks"),
        ({**GOOD, "agents": ["dreamer"]}, "agents: 'dreamer' is none that there is: choose from"),
        ({**GOOD, "agents": []}, "agents has no choice: name at least one"),
        ({**GOOD, "agents": [3]}, "agents: 3 is not what belongs there: names, or tables"),
        ({**GOOD, "agents": [{"tasks": ["a"]}]}, 'names, or tables {name = "ppo-lag"}'),
        ({**GOOD, "agents": [{"name": "ppo", "episodes": 3}]}, "episodes: the agent ppo has no such key"),
        ({**GOOD, "agents": ["ppo", "ppo"]}, 'agents has "ppo" twice: name it once'),
        (
            {**GOOD, "agents": ["ppo", {"name": "ppo"}]},
            "two trials are the same, or would have the same directory: ppo",
        ),
        ({**GOOD, "agents": [{"name": "ppo", "budgets": [2]}]}, "ppo ignores costs, so it has no budget"),
        ({**GOOD, "agents": ["fosp", "bc"]}, "learns from recorded data, which a sweep does not offer"),
        ({**GOOD, "tasks": [""]}, "tasks: '' is not what belongs there: names of tasks"),
        ({**GOOD, "obs": [["lidar", 3]]}, "obs: ['lidar', 3] is not what belongs there"),
        ({**GOOD, "seeds": [1.5]}, "seeds: 1.5 is not what belongs there: whole numbers from 0 on"),
        ({**GOOD, "seeds": [True]}, "seeds: True is not"),
        ({**GOOD, "seeds": [-1]}, "seeds: -1 is not"),
        ({**GOOD, "budgets": [float("inf")]}, "budgets: inf is not what belongs there: costs of at least 0"),
        ({**GOOD, "budgets": ["2"]}, "budgets: '2' is not"),
        ({**GOOD, "preset": "huge"}, "preset: 'huge' is none that there is: choose from debug"),
        ({**GOOD, "steps": 0}, "steps: 0 is not what belongs there: a whole number of at least 1"),
        ({**GOOD, "episodes": "many"}, "episodes: 'many' is not"),
        ({**GOOD, "asha": 3}, "asha: 3 is not what belongs there: true or false"),
        ({**GOOD, "search": True}, "search: True is not"),
        ({**GOOD, "search_seed": -1}, "search_seed: -1 is not"),
        ({**GOOD, "search": 3}, "search draws samples of ranges, but no setting has one"),
        ({**GOOD, "settings": 3}, "settings: 3 is not what belongs there: a table"),
        ({**GOOD, "settings": {"agent": {"x": []}}}, "agent.x has no choice"),
        ({**GOOD, "settings": {"agent": {"x": [1, 1]}}}, "agent.x has 1 twice"),
        ({**GOOD, "settings": {"agent": {"x": float("nan")}}}, "settings: agent.x: nan is not what belongs there"),
        ({**GOOD, "settings": {"seed": 1}}, "settings: seed is set by the key seeds"),
        ({**GOOD, "settings": {"agent.budget.limit": 1}}, "settings: agent.budget.limit is set by the key budgets"),
        ({**GOOD, "settings": {"a": {"uniform": [0, 1]}}}, "a: a range needs the number of its samples"),
        ({**GOOD, "settings": {"a": {"uniform": [1, 0]}}}, "its low end must be below its high end"),
        ({**GOOD, "settings": {"a": {"uniform": 3}}}, "give its lowest and highest number, [low, high]"),
        ({**GOOD, "settings": {"a": {"randint": [0.5, 3]}}}, "give its whole lowest and highest number"),
        ({**GOOD, "settings": {"a": {"loguniform": [0, 3]}}}, "its low end must be above 0"),
        ({**GOOD, "settings": {"a": {"choice": []}}}, "give a list of choices"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SweepError, match=re.escape(message)):
        expand(checked(table))


@pytest.mark.parametrize(
    ("content", "message"), [(b"agents = [", "it is no TOML"), (b"\xff", "it is no TOML"), (b"x = 1", "x: a sweep has")]
)
def test_a_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(SweepError, match=f"mine.toml: {message}"):
        read_definition(path)
