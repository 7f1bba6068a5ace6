"""Shell scripts that train and test a network: each step from the weights of the one before."""

from __future__ import annotations

from collections.abc import Sequence

from .. import paper
from .config import NetConfig
from .data import databases
from .header import command, entry, weights_note
from .solver import SNAPSHOTS, final_weights, solver_file

CAFFE = {
    "srn": 'mpirun -np {gpus} "$CAFFE" train --solver="$1" --weights="$2"',
    "bvlc": '"$CAFFE" train --solver="$1" --weights="$2" --gpu={devices}',
}
ALONE = '"$CAFFE" train --solver="$1" --weights="$2"'
FROM_FILLERS = '"$CAFFE" train --solver="$1" ${2:+--weights="$2"}'

_TRAIN = """\
#!/bin/sh
# Trains {network} for {dataset} in {count}{each}.
# Made by: {command}
#
#   ./{file}{argument}
#
{weights}
# CAFFE names {caffe} (default: caffe on the PATH). A step whose weights are there already is left out.
set -eu
CAFFE=${{CAFFE:-caffe}}
{start}cd "$(dirname "$0")"
for database in \\
{databases}
do
  if [ ! -e "$database" ]; then
    echo "$0: $(pwd)/$database is missing; the headers of the train_val nets say how it is made" >&2
    exit 2
  fi
done
mkdir -p {snapshots}

# train SOLVER WEIGHTS RESULT
train() {{
  if [ -f "$3" ]; then
    echo "$3 is there already: $1 is left out"
  else
    {caffe_line}
  fi
}}

{steps}
"""

_IMAGENET = """\
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
  echo "usage: $0 IMAGENET.caffemodel (a file)" >&2
  exit 2
fi
IMAGENET=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
"""

_TEST = """\
#!/bin/sh
# Tests {network} on {dataset}: writes one line of {classes} logits per image.
# Made by: {command}
#
#   ./{file} MODEL_TEST.py IMAGE_ROOT/ IMAGE_LIST [WEIGHTS]
#
# MODEL_TEST.py is the authors' test program, which needs pycaffe of this dialect and Python 2; it resizes whole
# images to the net's input and takes batches of {batch}. WEIGHTS default to the end of training.
set -eu
if [ $# -lt 3 ]; then
  echo "usage: $0 MODEL_TEST.py IMAGE_ROOT/ IMAGE_LIST [WEIGHTS]" >&2
  exit 2
fi
HERE=$(cd "$(dirname "$0")" && pwd)
WEIGHTS=${{4:-$HERE/{weights}}}
PYTHON=${{PYTHON:-python}}

"$PYTHON" "$1" "$2" "$3" "$HERE/{net}" "$WEIGHTS" {predictions} --batch_size {batch} --gpus {devices}
"""


def train_file(config: NetConfig) -> str:
    """The file name of the training script, as in the release."""
    return f"run_train_{config.dataset.key}.sh"


def test_file(config: NetConfig) -> str:
    """The file name of the test script."""
    return f"run_test_{config.dataset.key}.sh"


def train_script(config: NetConfig, steps: Sequence[NetConfig]) -> str:
    """All steps of a network, one after the other; `config` is the test net's, `steps` the train_val nets'."""
    fillers = config.dataset.recipe is not None
    weights, lines = '""' if fillers else '"$IMAGENET"', []
    for step in steps:
        assert step.step is not None
        lines += [f"# step {step.step.number}: {step.about_step}"]
        lines += [f"train {solver_file(step.step)} {weights} {final_weights(step)}"]
        weights = final_weights(step)
    count = "one step" if len(steps) == 1 else f"{len(steps)} steps"
    line = ALONE if config.dialect == "srn" and config.gpus == 1 else CAFFE[config.dialect]
    first = weights_note(steps[0])
    return _TRAIN.format(
        network=config.network.name,
        dataset=config.dataset.name,
        count=count,
        each=", each from the weights of the one before" if len(steps) > 1 else "",
        command=command(steps[-1]),
        file=train_file(config),
        weights="\n".join(entry("# ", first[0].upper() + first[1:] + ".", "# ")),
        caffe="the fork's program" if config.dialect == "srn" else "Caffe's program",
        databases=" \\\n".join(f"  {database}" for database in databases(config)),
        snapshots=SNAPSHOTS,
        argument="" if fillers else " IMAGENET.caffemodel",
        start="" if fillers else _IMAGENET,
        caffe_line=FROM_FILLERS if fillers else line.format(gpus=config.gpus, devices=_devices(config, ",")),
        steps="\n".join(lines),
    )


def test_script(config: NetConfig, steps: Sequence[NetConfig], net: str) -> str:
    """The authors' test program on the test net `net` with the weights of the last step."""
    return _TEST.format(
        network=config.network.name,
        dataset=config.dataset.name,
        classes=config.classes,
        command=command(steps[-1]),
        file=test_file(config),
        batch=paper.Evaluation().test_batch,
        weights=final_weights(steps[-1]),
        net=net,
        predictions=f"{config.dataset.key}_predictions.txt",
        devices=_devices(config, " "),
    )


def _devices(config: NetConfig, between: str) -> str:
    return between.join(map(str, range(config.gpus)))
