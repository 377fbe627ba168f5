"""Recordings, worlds without control: text, music, speech and pen strokes."""
