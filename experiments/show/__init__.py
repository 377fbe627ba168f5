"""Showing: players, films, curves, reports."""
