"""How runs are trained: one by one, stacked, or grouped."""
