"""Training autoencoders."""
