"""What scripts/slurm is made of."""
