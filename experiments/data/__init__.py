"""Data sets: episodes and spaces as files, and the files of others."""
