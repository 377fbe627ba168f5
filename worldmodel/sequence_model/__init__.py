"""Models of sequences in which nobody acts: numbers, classes, truth values, text."""
