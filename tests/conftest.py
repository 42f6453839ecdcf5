"""What every test runs under: the CPU, checked shapes, no silent promotion of ranks, no key used twice.

Shapes are checked by jaxtyping with beartype, and warnings are errors; pyproject.toml turns both on.
"""

from __future__ import annotations

import os
from pathlib import Path

# Before JAX is first imported: the tests compare bit for bit, which only the CPU promises.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# Compiling takes most of the tests' time, and the second run need not repeat it.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
