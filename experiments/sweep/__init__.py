"""Sweeps: many runs of a plan, each a run folder of its own."""
