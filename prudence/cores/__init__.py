"""The cores: the common parts of which systems are composed."""
