#!/bin/sh
# Tests ResNet-SRN on NUS-WIDE: writes one line of 81 logits per image.
# Made by: python -m prototxt_gen write --training --network ResNet-SRN --dataset nus_wide --profile released --dialect srn
#
#   ./run_test_nus_wide.sh MODEL_TEST.py IMAGE_ROOT/ IMAGE_LIST [WEIGHTS]
#
# MODEL_TEST.py is the authors' test program, which needs pycaffe of this dialect and Python 2; it resizes whole
# images to the net's input and takes batches of 48. WEIGHTS default to the end of training.
set -eu
if [ $# -lt 3 ]; then
  echo "usage: $0 MODEL_TEST.py IMAGE_ROOT/ IMAGE_LIST [WEIGHTS]" >&2
  exit 2
fi
HERE=$(cd "$(dirname "$0")" && pwd)
WEIGHTS=${4:-$HERE/snapshots/step_4_resnet101_srn_finetune_iter_37497.caffemodel}
PYTHON=${PYTHON:-python}

"$PYTHON" "$1" "$2" "$3" "$HERE/nus_wide_resnet101_srn_test.prototxt" "$WEIGHTS" nus_wide_predictions.txt --batch_size 48 --gpus 0 1 2 3
