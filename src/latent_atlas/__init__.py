"""Latent Atlas: train autoencoders, then measure and show the surfaces that their decoders draw in pixel space."""

import time

STARTED = time.time()  # of the process: what jobs are said to take includes loading their libraries
