"""The machinery that systems are compositions of."""
