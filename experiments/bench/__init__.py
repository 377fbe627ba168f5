"""Measurements: other algorithms on the same games, models of music, speed, memory."""
