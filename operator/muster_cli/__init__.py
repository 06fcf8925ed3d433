"""The `muster` command: checks manifests, runs jobs on this machine, works for coordinators elsewhere."""
