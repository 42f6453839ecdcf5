"""Comparisons by hand: what counts as one system, its scores, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prudence.cli.main import main
from prudence.evidence import plot
from prudence.evidence.compare import compare
from prudence.evidence.content import read_entries
from prudence.evidence.record import record
from prudence.evidence.scores import cost_regret, normalise, score_systems
from prudence.runs.curves import Series
from prudence.runs.directory import RunDirectoryError

TASK = "SafetyPointGoal1-v0"
RESULTS = Path(__file__).parent.parent.parent / "results"


@pytest.fixture
def run(tmp_path):
    """Writes an evaluated run: by default of two episodes, and with two training episodes of 1000 raw steps."""

    def write(
        name,
        agent="ours",
        *,
        seed=0,
        task=TASK,
        obs="lidar",
        returns=(1.0, 3.0),
        costs=(0.0, 4.0),
        budget=2.0,
        training=(10.0, 30.0),
        **settings,
    ):
        directory = tmp_path / name
        directory.mkdir()
        env = {"task": task, "obs": [obs]}
        config = {"agent_name": agent, "env": env, "agent": {"cost_limit": budget, **settings}, "seed": seed}
        (directory / "config.json").write_text(json.dumps(config))
        names = ["cost"] if np.ndim(costs) == 1 else ["cost_a", "cost_b"]
        evaluation = {
            "seed": 0,
            "returns": list(returns),
            "costs": np.reshape(costs, (len(returns), -1)).tolist(),
            "cost_names": names,
            "budgets": None if budget is None else np.broadcast_to(budget, len(names)).tolist(),
        }
        (directory / "evaluation.json").write_text(json.dumps(evaluation))
        if training:
            lines = [
                {"step": 1000 * i, "episode/return": 1.0, "episode/cost": cost} for i, cost in enumerate(training, 1)
            ]
            lines.append({"step": 1000 * len(training), "time/wall": 120.0})
            (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return directory

    return write


def column(comparison, head):
    heads, rows = comparison.table()
    return [row[heads.index(head)] for row in rows]


def test_scores_by_hand(run):
    a = run("a", returns=[100, 1, 2, 3], costs=[0, 2, 3, 9], training=[10, 30])
    b = run("b", seed=1, returns=[4, 5, 6, 90], costs=[0, 0, 1, 50], training=[40, 40])
    (system,) = compare([a, b]).systems
    assert system.label == "ours"
    assert system.returns.mean.estimate == 211 / 8
    assert system.returns.iqm.estimate == (3 + 4 + 5 + 6) / 4
    (cost,) = system.costs
    assert cost.score.mean.estimate == 65 / 8
    assert cost.score.iqm.estimate == (0 + 1 + 2 + 3) / 4
    assert cost.within == 5 / 8, "a cost of exactly 2 is within a budget of 2"
    # 40 and 80 in 2000 raw steps.
    assert cost.regret == pytest.approx((0.02 + 0.04) / 2)
    np.testing.assert_array_equal(system.means, [[26.5, 3.5], [26.25, 12.75]])


def test_cost_regret_ends_with_the_last_episode():
    assert cost_regret(Series(np.array([500.0, 500, 1000]), np.array([5.0, 0, 20]))) == 0.025
    assert cost_regret(Series(np.array([0.0]), np.array([5.0]))) is None


def test_normalised_by_hand(run):
    ours = run("ours", returns=[4, 6], costs=[3, 5], training=[10, 10])
    reference = run("reference", "free", returns=[10, 30], costs=[10, 14], training=[40, 40])
    comparison = compare([ours, reference], reference="free")
    scores = normalise(*comparison.systems)
    # J: 5 / 20; Jc: (4 - 2) / (12 - 2); regret: .01 / .04
    assert (scores.returns, scores.costs, scores.regrets) == (0.25, (0.2,), (pytest.approx(0.25),))
    assert normalise(*comparison.systems[::-1]).costs == (5.0,)
    assert column(comparison, "J̄c") == ["0.200", "1.00"]
    assert "J̄" not in compare([ours, reference]).table()[0]


def test_ratios_that_say_nothing_are_left_out(run):
    loser = run("loser", "free", returns=[-2, -4], costs=[0, 1], training=())
    ours, idle = run("ours", returns=[1, 3], costs=[8, 8]), run("idle", "idle", costs=[0, 0])
    comparison = compare([ours, idle, loser], reference="free")
    assert column(comparison, "J̄") == ["–"] * 3
    assert column(comparison, "J̄c") == ["–", "0.00", "0.00"], "within the budget is 0 whatever the reference"
    assert column(comparison, "ρ̄c") == ["–"] * 3
    assert column(comparison, "cost regret") == ["0.0200", "0.0200", "–"]
    numbers = json.loads(json.dumps(comparison.numbers(), allow_nan=False))
    assert numbers["systems"][2]["runs"][0]["cost_regret"] == [None]


def test_labels_name_only_what_differs():
    def config(agent, obs="lidar", seed=0, limit=2.0, task=TASK):
        return {"agent_name": agent, "env": {"task": task, "obs": [obs]}, "agent": {"cost_limit": limit}, "seed": seed}

    assert plot.system_labels([config("a"), config("a", seed=1)]) == (f"a  ·  {TASK}  ·  lidar  ·  budget 2", ["a"] * 2)
    common, labels = plot.system_labels([config("a"), config("b"), config("a", "vision")])
    assert (common, labels) == (f"{TASK}  ·  budget 2", ["a, lidar", "b, lidar", "a, vision"])
    assert plot.system_labels([config("a"), config("a", limit=[5.0, 1.0])])[1] == ["budget 2", "budget 5 1"]
    assert plot.system_labels([config("a"), config("b", limit=None)])[1] == ["a", "b"]
    assert plot.system_labels([config("a", task="My-v0"), config("b", "vision", task="My-v0")])[1] == ["a", "b"]
    assert plot.system_labels([config("a"), config("a", task="My-v0")])[1] == [TASK, "My-v0"]


def test_settings_tell_runs_apart(run):
    runs = [run("a0", "a", horizon=5), run("a1", "a", horizon=6), run("a2", "a", seed=1, horizon=5), run("b", "b")]
    comparison = compare(runs, by=["agent.horizon"])
    assert column(comparison, "system") == ["a, agent.horizon 5", "a, agent.horizon 6", "b"]
    assert column(comparison, "seeds") == ["2", "1", "1"]
    assert not [note for note in comparison.notes() if "differ" in note]
    assert comparison.command.endswith(" --by agent.horizon")
    with pytest.raises(ValueError, match=r"no run has the setting 'agent.width': .* such as agent.horizon"):
        compare(runs, by=["agent.width"])


def test_options_of_a_suite_are_named_as_on_the_command_line():
    config = {"env": {"task": TASK, "options": {"lidar_scale": "inverse"}}}
    assert plot.stated(config, "env.lidar-scale") == 'env.lidar-scale "inverse"'
    assert plot.stated(config, "env.other") == ""


def test_runs_are_grouped_and_their_differences_told(run):
    runs = [run("a0", "a"), run("b0", "b"), run("a1", "a", seed=1, horizon=5), run("b1", "b", seed=1)]
    comparison = compare(runs)
    assert column(comparison, "seeds") == ["2", "2"]
    assert column(comparison, "system") == ["a", "b"]
    assert not [note for note in comparison.notes() if "differ" in note], "only one has a horizon"
    differing = compare([run("c0", "c", horizon=5), run("c1", "c", seed=1, horizon=6)])
    assert differing.notes()[-1] == "c: its runs differ in agent.horizon."


def test_a_record_gives_what_its_run_gives(run, tmp_path):
    runs = [run("a", seed=0), run("b", seed=1), run("c", "other", training=()), run("d", "single", training=[1 / 3])]
    record(runs[:2], tmp_path / "both")
    record(runs[2:3], tmp_path / "c-record")
    assert not (tmp_path / "c-record" / "curve.png").exists(), "nothing was learned, so there is no curve"
    record(runs[2:], tmp_path / "rest")
    from_runs = compare(runs).table()
    assert compare([tmp_path / "both", tmp_path / "rest"]).table() == from_runs
    assert compare([*runs[:2], tmp_path / "rest"]).table() == from_runs
    assert column(compare(runs), "minutes") == ["2", "–", "2"]


def test_a_record_names_no_folder_of_its_machine(run, tmp_path):
    directory = run("a")
    start = {"command": "prudence train a --start-from=/some/b-0 --out /some/where/a-0 --seed 0", "commit": "c0ffee"}
    (directory / "provenance.json").write_text(json.dumps([start]))
    kept = json.loads(record([directory], tmp_path / "kept")[0].read_text())["runs"][0]["provenance"]
    assert kept == [{"command": "prudence train a --start-from=b-0 --out a-0 --seed 0", "commit": "c0ffee"}]


def test_several_constraints_have_their_columns(run):
    two = run("two", costs=[[0, 9], [4, 9]], budget=[2.0, 10.0], training=())
    (two / "metrics.jsonl").write_text('{"step": 100, "episode/cost": 9, "episode/cost_cost_b": 5}\n')
    comparison = compare([two])
    assert comparison.budgets == {"cost_a": 2.0, "cost_b": 10.0}
    assert column(comparison, "within budget cost_a") == ["50 %"]
    assert column(comparison, "within budget cost_b") == ["100 %"]
    assert column(comparison, "cost regret cost_a") == ["–"], "the total says nothing of one of them"
    assert column(comparison, "cost regret cost_b") == ["0.0500"]


def test_a_budget_may_be_given_or_absent(run):
    ours, free = run("ours"), run("free", "free", budget=None)
    assert column(compare([ours, free]), "within budget") == ["50 %", "50 %"], "the one budget holds for both"
    assert column(compare([free]), "within budget") == ["–"]
    strict = run("strict", budget=0.0)
    comparison = compare([ours, strict], budget=[5.0])
    assert column(comparison, "system") == ["budget 2", "budget 0"]
    assert column(comparison, "within budget") == ["100 %", "100 %"]


def test_what_is_written(run, tmp_path):
    ours, planner = run("ours", returns=range(20), costs=[0.0, 40.0] * 10), run("plan", "planner", training=())
    comparison = compare([ours, planner], reference="planner")
    table, numbers, picture = comparison.write(tmp_path / "deep" / "out")
    lines = table.read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert rows[2].startswith("| ours | 1 | – | 2 | 20 | 9.50 [")
    assert f"Made by `prudence compare {ours} {planner} --reference planner`." in lines
    written = json.loads(numbers.read_text())
    low, high = written["systems"][0]["return"]["mean"]["interval"]
    assert low < 9.5 < high
    with Image.open(picture) as image:
        assert image.width > 1000


def test_the_figure_has_curves_levels_and_points(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("prudence.evidence.plot.save", lambda figure, path: drawn.append(figure) or path)
    seeds = [run("a", training=[10.0] * 5), run("b", seed=1, returns=[5, 7], training=[20.0] * 5)]
    planner = run("plan", "planner", returns=[8, 8], costs=[1, 1], training=())
    compare([*seeds, planner]).write(tmp_path)
    returns, costs, evaluation = drawn[0].axes
    assert [line.get_label() for line in returns.lines if len(line.get_xdata()) > 2] == ["ours, 2 seeds"]
    assert [float(line.get_ydata()[0]) for line in returns.lines[1:]] == [8], "the planner's level"
    assert "budget 2" in [text.get_text() for text in costs.texts]
    assert 2 in [line.get_xdata()[0] for line in evaluation.lines]
    points = {(x, y) for line in evaluation.lines if line.get_marker() in "oD" for x, y in line.get_xydata().tolist()}
    assert points == {(2, 2), (2, 6), (2, 4), (1, 8)}, "two seeds, their mean, and the planner"
    compare([planner]).write(tmp_path)
    assert len(drawn[1].axes) == 1, "no curves, no panels for them"


def test_nothing_costs_anything_and_nothing_may(run, tmp_path):
    comparison = compare([run("nil", costs=[0, 0], budget=0.0, training=[0, 0])])
    assert column(comparison, "cost (budget 0)") == ["0.00 [0.00, 0.00]"]
    assert column(comparison, "within budget") == ["100 %"]
    assert comparison.write(tmp_path)[2].exists()


def test_one_episode_has_no_interval(run):
    single = run("single", returns=[3], costs=[1])
    assert column(compare([single]), "return") == ["3.00"]
    (system,) = compare([single]).systems
    assert math.isnan(system.returns.mean.low)


def test_mistakes_are_named(run, tmp_path):
    ours = run("ours")
    with pytest.raises(ValueError, match="at least one run"):
        compare([])
    with pytest.raises(RunDirectoryError, match=r"nowhere holds neither a run .* nor a record"):
        compare([ours, tmp_path / "nowhere"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text("[]")
    with pytest.raises(ValueError, match="not a record of `prudence record`"):
        compare([tmp_path / "broken"])
    raw = run("raw", seed=1)
    (raw / "evaluation.json").unlink()
    with pytest.raises(RunDirectoryError, match=f"run `prudence evaluate {raw}` first"):
        compare([ours, raw])
    with pytest.raises(ValueError, match=r"different tasks: SafetyPointGoal1-v0 in .*ours; My-v0 in .*task.* one task"):
        compare([ours, run("task", task="My-v0")])
    with pytest.raises(ValueError, match=r"different budgets: 2 in .*; 25 in .*--budget"):
        compare([ours, run("budget", budget=25.0)])
    with pytest.raises(ValueError, match=r"different constraints: cost in .*; cost_a, cost_b in .*--env.costs"):
        compare([ours, run("two", costs=[[0, 9], [4, 9]])])
    with pytest.raises(ValueError, match="2 budgets for the 1 constraints cost"):
        compare([ours], budget=[1.0, 2.0])
    with pytest.raises(ValueError, match="no system is called 'ppo': choose the reference from ours"):
        compare([ours], reference="ppo")
    record([ours], tmp_path / "kept")
    with pytest.raises(ValueError, match=r"kept hold the same run, of seed 0: name it once"):
        compare([ours, tmp_path / "kept"])


def test_tasks_differ_in_what_changes_them(run):
    short = run("short", seed=1)
    config = json.loads((short / "config.json").read_text())
    config["env"]["time_limit"] = 100
    (short / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r'SafetyPointGoal1-v0 with {"time_limit": 100} in'):
        compare([run("long"), short])


def test_systems_can_be_scored_without_a_table(run):
    runs = [loaded for name in ("a", "b") for loaded in compare([run(name, name)]).systems[0].runs]
    assert [system.label for system in score_systems(runs)] == ["a", "b"]


EVALUATION = {"seed": 0, "returns": [1.0, 3.0], "costs": [[0.0], [4.0]], "cost_names": ["cost"], "budgets": [2.0]}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is not JSON: Expecting value"),
        ("\xff", "is not JSON"),
        ("[]", "holds a list instead of a JSON object"),
        ("{}", "cost_names is no list of names"),
        (json.dumps(EVALUATION | {"returns": []}), "returns is no list of numbers"),
        (json.dumps(EVALUATION | {"returns": [1.0, "x"]}), "returns is no list of numbers"),
        (json.dumps(EVALUATION | {"returns": [1.0, math.nan]}), "returns is no list of numbers"),
        (json.dumps(EVALUATION | {"costs": [[0.0]]}), "costs is no list of 1 numbers for each of 2 episodes"),
        (json.dumps(EVALUATION | {"costs": 3}), "costs is no list"),
        (json.dumps(EVALUATION | {"budgets": [1.0, 2.0]}), "budgets is no list of numbers, one for each constraint"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "record"])
def test_an_evaluation_that_cannot_be_read_is_named(run, tmp_path, capsys, command, content, fault):
    broken = run("broken") / "evaluation.json"
    broken.write_text(content, encoding="latin-1")
    assert main([command, str(broken.parent), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"prudence {command}: {broken} ")
    assert fault in said
    assert f"prudence evaluate {broken.parent}" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content.clear(), "it has no list of runs"),
        (lambda content: content.update(runs=[]), "it has no list of runs"),
        (lambda content: content.update(runs=[3]), "run 1: it is no JSON object"),
        (lambda content: content["runs"][0].pop("curves"), "run 1: it lacks curves"),
        (lambda content: content["runs"][0].update(curves={"episode/cost": [[1]]}), "curves are no lists of pairs"),
        (lambda content: content["runs"][0].update(config={"env": 3}), "config is no configuration"),
        (lambda content: content["runs"][0].update(raw_steps="many"), "raw_steps or training_minutes is no number"),
        (lambda content: content["runs"][0].update(evaluation=None), "it was not evaluated"),
        (lambda content: content["runs"][0].update(evaluation={}), "of its evaluation, cost_names is no list"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(run, tmp_path, capsys, change, fault):
    record([run("one")], tmp_path / "kept", policies=False)
    path = tmp_path / "kept/result.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert main(["compare", str(path.parent), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"prudence compare: {path} is not a record of `prudence record`: ")
    assert fault in said


def test_a_configuration_that_cannot_be_read_is_named(run, tmp_path, capsys):
    config = run("one") / "config.json"
    for content, fault in (("", "is not JSON"), ("[]", "holds a list"), ('{"env": 3}', "its env is 3")):
        config.write_text(content)
        assert main(["compare", str(config.parent), "--out", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert str(config) in said
        assert fault in said


def test_every_record_of_the_repository_can_be_read():
    records = sorted(RESULTS.glob("*/result.json"))
    assert records
    for path in records:
        assert read_entries(path)
