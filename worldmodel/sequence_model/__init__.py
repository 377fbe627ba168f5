"""Models of sequences without actions: numbers, classes, truth values, text."""
