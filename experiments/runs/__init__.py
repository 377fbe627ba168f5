"""Run folders: configuration, metrics, checkpoints, progress."""
