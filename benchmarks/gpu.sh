#!/usr/bin/env bash
# What a GPU makes of Prudence, in at most nine minutes, without a network:
#
#     benchmarks/gpu.sh [OUT] [options of benchmarks/gpu.py]
#
# Updates, decisions, compilation and memory of every world-model agent at the papers' sizes, then safedreamer-bsrp-lag
# from pixels for the rest of the time. Report: OUT/gpu.json and OUT/gpu.md (by default gpu-report), run: OUT/run.
# PYTHON is the interpreter with Prudence's packages and a JAX that sees the GPU: pip install "prudence-rl[cuda]".
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=gpu-report
if [[ $# -gt 0 && $1 != -* ]]; then out=$1; shift; fi
python=${PYTHON:-$([[ -x $here/.venv/bin/python ]] && echo "$here/.venv/bin/python" || command -v python3)}

export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
# One process after another uses the GPU, and memory is measured: none takes all of it at once.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
# A second call goes on with the programs of the first.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/programs}
exec "$python" "$here/benchmarks/gpu.py" --out "$out" "$@"
