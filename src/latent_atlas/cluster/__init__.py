"""Where jobs run: the GPUs of this machine, SLURM, and what jobs took."""
