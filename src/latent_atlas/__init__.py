"""Latent Atlas: train autoencoders, then measure and show the surfaces that their decoders draw in pixel space."""
