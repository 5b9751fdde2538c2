"""Limits of accuracy that measurements and the figures of them share."""

from __future__ import annotations

ACCURATE = 0.05  # of a singular value: its bound where it is drawn as one
