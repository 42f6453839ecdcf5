"""What a posterior's models say of themselves: coverage by hand, and the picture of a trained run."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
import toys

from prudence.cores.dreamer.dreamer import Dreamer
from prudence.envs.base import EnvConfig
from prudence.inspection.doubt import LEVELS, Doubt, coverage, draw_doubt, measure_doubt, record
from prudence.inspection.inspect import inspect_run
from prudence.inspection.tables import sheets
from prudence.presets import preset
from prudence.training.trainer import train


def test_coverage_of_a_perfect_posterior_is_that_of_the_interval():
    # Truth and twenty samples are of one distribution.
    drawn = np.random.default_rng(0).normal(size=(21, 20_000))
    np.testing.assert_allclose(coverage(drawn[1:], drawn[0]), LEVELS, atol=0.015)
    assert coverage(drawn[1:], np.full(20_000, 200.0)).max() == 0


def test_models_disagree_more_the_further_they_look(tmp_path):
    spaces = toys.spaces()
    agent, batch = toys.dreamer(spaces, "lambda"), toys.batch(spaces, 3, 8)
    state = agent.init(key=jax.random.key(0))
    cold = measure_doubt(agent, state, batch, context=3, key=jax.random.key(2))
    np.testing.assert_allclose(cold.spread, 0.0, atol=1e-6)
    state = toys.warmed(agent, state)
    found = measure_doubt(agent, state, batch, context=3, key=jax.random.key(2))
    assert found.costs.shape == (8, 5)  # Four draws of two models.
    assert 0 < found.spread[0] < found.spread[-1]
    np.testing.assert_allclose(found.real_cost, batch.cost[:, 3:, 0].mean(0).cumsum(), rtol=1e-5)
    assert draw_doubt({"replay": found}, tmp_path / "doubt.png").stat().st_size > 10_000


def test_an_agent_without_a_posterior_has_no_doubts():
    spaces = toys.spaces()
    agent = toys.dreamer(spaces)
    with pytest.raises(ValueError, match="has only one prediction"):
        measure_doubt(
            agent, agent.init(key=jax.random.key(0)), toys.batch(spaces, 2, 6), context=3, key=jax.random.key(1)
        )


@pytest.mark.slow
def test_a_run_is_inspected_against_another_task(tmp_path):
    config = preset("debug", "lambda", EnvConfig("probe/cost"))
    # Without an update: the last iteration begins before the prefill is full. What is asked of copies is the same.
    config = replace(config, loop=replace(config.loop, steps=200, prefill=196))
    run = train(config, tmp_path / "run")
    ask = {"sequences": 6, "context": 3, "ahead": 5}
    found = inspect_run(run, key=jax.random.key(0), against="probe/value", **ask)
    assert set(found.doubts) == {"replay", "probe/value"}
    assert all(isinstance(d, Doubt) for d in found.doubts.values())
    assert (run / "doubt.png") in found.pictures
    titles = [sheet.title for sheet in sheets(found.numbers())]
    assert "Models on probe/value, decisions ahead" in titles
    with pytest.raises(ValueError, match="probe/memory has other observations"):
        inspect_run(run, key=jax.random.key(0), against="probe/memory", **ask)


def test_recorded_sequences_do_not_cross_episodes():
    env = EnvConfig("probe/cost")
    spaces = toys.spaces(("state", toys.VECTOR[1]._replace(shape=(1,))), actions=1)
    agent = toys.dreamer(spaces, "lambda")
    assert isinstance(agent, Dreamer)
    batch = record(agent, agent.init(key=jax.random.key(0)), env, sequences=4, length=8, seed=0)
    assert batch.reward.shape == (4, 8)
    assert not batch.is_first[:, 1:].any()
