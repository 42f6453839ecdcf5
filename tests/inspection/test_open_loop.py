"""What is said of a model's open-loop predictions, against numbers worked by hand."""

from __future__ import annotations

import numpy as np

from prudence.envs.base import entries
from prudence.inspection.open_loop import explain, foresight, short_names


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


def parts() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two sequences of a vector of three numbers, seen once and predicted twice: the truth is 0 and 2 in the first
    number, 1 and 3 in the others."""
    truth = np.zeros((2, 3, 3), np.float32)
    truth[:, 1:] = [[[0, 1, 1]], [[2, 3, 3]]]
    truth[:, 0] = [[0, 1, 1], [0, 3, 3]]
    one, mean = truth.copy(), truth.copy()
    one[:, 1:, 1:] = 2  # The mean of 1 and 3.
    mean[:, 2, 0] = [2, 0]  # The wrong way round.
    return {"prediction/x": one, "truth/x": truth}, {"prediction/x": mean, "truth/x": truth}


def test_parts_of_a_vector_are_explained_apart() -> None:
    one, mean = parts()
    found = explain(one, mean, {"x": entries([("left", (1,)), ("right", (2,))])}, context=1)
    assert list(found) == ["x/left", "x/right"]
    np.testing.assert_allclose(found["x/left"].one, [1, 1])
    # Errors of 2 against deviations of 1 from the mean: 1 - 8 / 2.
    np.testing.assert_allclose(found["x/left"].mean, [1, -3])
    np.testing.assert_allclose(found["x/right"].one, [0, 0])
    # Copies of 0 where 0 and 2 come: 1 - 4 / 2; copies of what comes: 1.
    np.testing.assert_allclose(found["x/left"].copy, [-1, -1])
    np.testing.assert_allclose(found["x/right"].copy, [1, 1])
    assert found["x/left"].spread == 1


def test_a_vector_without_names_is_explained_as_a_whole() -> None:
    one, mean = parts()
    found = explain(one, mean, {"another": entries([("a", (3,))])}, context=1)
    # Of 2 squared deviations in each of 3 numbers, those of the last two are not explained.
    np.testing.assert_allclose(found["x"].one, [1 / 3, 1 / 3])


def test_names_are_short_where_that_is_clear() -> None:
    assert short_names(["lidar/gyro", "lidar/goal", "image"]) == ["gyro", "goal", "image"]
    assert short_names(["lidar/gyro", "privileged/gyro"]) == ["lidar/gyro", "privileged/gyro"]
