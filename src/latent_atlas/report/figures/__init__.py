"""Plotting functions, one module for each stage that draws, with one style for all (``style``)."""
