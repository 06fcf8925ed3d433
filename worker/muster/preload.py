"""What a process imports before it forks workers: everything that is slow to import, and nothing that a fork breaks.

No grpc, no thread, no touch of a GPU. A forkserver that has imported this gives each worker its torch for nothing.
"""

from __future__ import annotations

from muster import training, worker, workshop

__all__ = ["training", "worker", "workshop"]
