"""Images: where they come from, and how they are held, split and sampled."""
