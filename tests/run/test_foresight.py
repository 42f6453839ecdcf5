"""What is said of a model's open-loop predictions, against numbers worked by hand."""

from __future__ import annotations

import numpy as np

from prudence.run.foresight import foresight


def report(predicted_cost: list[list[float]], real_cost: list[list[float]]) -> dict[str, np.ndarray]:
    """Two sequences of three steps, the first of them seen; rewards equal costs, one vector and one image."""
    predicted, real = (np.array(x, np.float32) for x in (predicted_cost, real_cost))
    image = np.zeros((2, 3, 1, 1, 3), np.uint8)
    image[1] = 255
    return {
        "prediction/reward": predicted,
        "truth/reward": real,
        "prediction/cost": predicted[..., None],
        "truth/cost": real[..., None],
        "prediction/camera": np.full((2, 3, 1, 1, 3), 0.5, np.float32),
        "truth/camera": image,
    }


def test_curves_begin_after_the_context_and_correlate_over_sequences():
    found = foresight(report([[9, 1, 0], [9, 3, 1]], [[0, 0, 1], [0, 1, 0]]), ("cost",), context=1)
    np.testing.assert_allclose(found.correlation["cost"], [1.0, -1.0])
    np.testing.assert_allclose(found.correlation["reward"], [1.0, -1.0])
    np.testing.assert_allclose(found.predicted["cost"], [2.0, 0.5])
    np.testing.assert_allclose(found.real["cost"], [0.5, 0.5])


def test_the_mean_of_an_image_explains_nothing_of_it():
    found = foresight(report([[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]), ("cost",), context=1)
    np.testing.assert_allclose(found.explained["camera"], [0.0, 0.0])


def test_a_cost_that_never_varies_has_no_correlation_to_log():
    found = foresight(report([[0, 1, 0], [0, 2, 1]], [[0, 0, 0], [0, 0, 0]]), ("cost",), context=1)
    assert np.isnan(found.correlation["cost"]).all()
    assert found.metrics() == {"foresight/cost_predicted": 1.0, "foresight/cost_real": 0.0}


def test_several_constraints_have_curves_of_their_own():
    values = report([[0, 1, 0], [0, 2, 1]], [[0, 0, 1], [0, 1, 0]])
    for side in ("prediction", "truth"):
        values[f"{side}/cost"] = np.concatenate([values[f"{side}/cost"], 1 - values[f"{side}/cost"]], -1)
    found = foresight(values, ("left", "right"), context=1)
    np.testing.assert_allclose(found.correlation["right"], found.correlation["left"])
    assert found.metrics()["foresight/left_correlation_1"] == 1.0


def test_an_agent_without_a_model_has_no_foresight():
    assert foresight({}, ("cost",), context=1).metrics() == {}
