"""Policy expansion (FOSP section 4.3, after Zhang, Xu and Yu 2023): two policies propose actions, and one is taken."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.cores.fosp.config import ExpansionConfig
from prudence.cores.fosp.critics import Values
from prudence.ops.offline import expansion_probabilities
from prudence.types import Key


def choose(
    proposals: Float[Array, "K E A"],
    values: Values,
    features: Float[Array, "E F"],
    config: ExpansionConfig,
    *,
    key: Key | None,
) -> tuple[Float[Array, "E A"], Float[Array, "K E"]]:
    """Takes one of K proposed actions in each of E environments.

    Args:
        proposals: the actions, of which each environment takes one.
        values: they score the actions.
        features: of the states, for the values.
        config: how scores become probabilities.
        key: draws from the probabilities. None takes the most probable proposal.

    Returns:
        The actions, and the probabilities of the proposals.
    """
    scores = jax.vmap(lambda actions: score(values, features, actions, config.cost_share))(proposals)
    probabilities = expansion_probabilities(scores, config.inverse_temperature)
    chosen = probabilities.argmax(0) if key is None else jax.random.categorical(key, jnp.log(probabilities), axis=0)
    return jnp.take_along_axis(proposals, chosen[None, :, None], axis=0)[0], probabilities


def score(
    values: Values, features: Float[Array, "E F"], actions: Float[Array, "E A"], cost_share: float
) -> Float[Array, " E"]:
    """Q/S − ω Σ_j Q^c_j/S_{c,j} of actions (FOSP eq. 22).

    The paper bounds both Q by what an episode can bring. Next to that bound the Q of two actions hardly differ, so the
    running ranges S of returns take its place, as in the weights of the regression.
    """
    rewards, costs = values
    gains = rewards.of_actions(features, actions) / rewards.scale.scale
    return gains - cost_share * (costs.of_actions(features, actions) / costs.scale.scale).sum(-1)
