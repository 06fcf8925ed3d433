"""The Kubernetes controller. Empty so far: jobs run on one machine, with ``muster run``."""
