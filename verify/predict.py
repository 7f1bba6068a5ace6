"""The scores of many images from one net, computed as the authors' test program does: port/scoring does it."""

from __future__ import annotations

from port.scoring import BATCH, compute_scores, image_input, score_output

__all__ = ["BATCH", "compute_scores", "image_input", "score_output"]
