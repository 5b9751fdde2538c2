"""Commands beside the pipeline: they make no results."""
