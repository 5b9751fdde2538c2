"""Statistics of measurements: chance levels."""
