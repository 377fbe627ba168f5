"""Data sets: files of episodes and spaces, and readers of published formats."""
