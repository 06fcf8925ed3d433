"""The bridge to SLURM: drives the jobs of one pool's workers.

Flow: `script` and `request` say what a pool's job is → `transport` (slurmrestd in `rest`, the command line in
`commands`) submits, lists and cancels → `plan` compares what is wanted with what SLURM says and decides, purely →
`bridge` persists the decision (`ledger`), then carries it out. Text and JSON are read by `squeue` and `openapi`, which
do no I/O.
"""
