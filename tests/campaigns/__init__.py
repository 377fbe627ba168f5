"""Campaigns: thousands of kills, damaged files, hostile folders and crowds, counted.

`make campaign` runs them all, `python -m campaigns NAME [--cases N] [--seed S]` (in `tests/`) one
of them; their figures stand in docs/reliability.md. Tests run a few cases of each.
"""
