"""`robustness.clipNorm`: an update that is longer than it may be is scaled down to that length.

The norm is that of the trainable values; all of the update is scaled, its float buffers too. How the sum and the robust
rules use the factor is theirs to say.
"""

from __future__ import annotations


def scale_of(norm: float, clip_norm: float | None) -> float:
    """What an update of this norm is multiplied by: min(1, C / ‖x‖) (Sun et al., 2019, "norm thresholding")."""
    return 1.0 if clip_norm is None or norm <= clip_norm else clip_norm / norm
