"""From images to a scores file, as the authors' test program does it; `python -m port score`.

from port.scoring import Options, compute_scores, score

net = dict(prototxt=Path("net.prototxt"), caffemodel="net.caffemodel")
score(Options(output=Path("scores.txt"), images=[Path("photos")], **net))      # journal, resuming, torchrun
scores = compute_scores(net, ["a.jpg", "b.jpg"])      # float32 (images, classes), nothing written
"""

from .compute import compute_scores
from .engines import image_input, score_output
from .files import write_scores
from .options import BATCH, Options
from .run import score

__all__ = ["BATCH", "Options", "compute_scores", "image_input", "score", "score_output", "write_scores"]
