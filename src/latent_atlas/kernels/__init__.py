"""Faster versions of known layers on a CPU, swapped in around a computation."""
