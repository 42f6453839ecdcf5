"""What the learning tests share."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def unchecked_keys() -> Iterator[None]:
    """Looking for keys that are used twice makes a decision take four times as long, and these tests take thousands.

    The tests of the cores look."""
    with jax.debug_key_reuse(False):
        yield
