"""Recordings, worlds that nobody steers: text, music, speech and pen strokes."""
