"""The geometry of a manifold in pixel space: spectra, tangent spaces, angles, paths, and what layers can tell."""
