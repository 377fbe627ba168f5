"""Measures of models: scores, open-loop errors, calibration."""
