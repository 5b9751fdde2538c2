"""Pictures, one module for each stage that draws, all in one hand (``base``)."""
