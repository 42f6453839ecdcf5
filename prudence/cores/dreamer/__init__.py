"""World model, imagination, planning: what Dreamer and its kin share."""
