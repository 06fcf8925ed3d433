"""The bridge to SLURM. Empty so far: pools of type Slurm run as local processes with ``muster run``."""
