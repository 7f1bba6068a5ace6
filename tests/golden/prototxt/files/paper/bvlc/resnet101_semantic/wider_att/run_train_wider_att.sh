#!/bin/sh
# Trains ResNet-101-semantic for WIDER-Attribute in 3 steps, each from the weights of the one before.
# Made by: python -m prototxt_gen write --training --network ResNet-101-semantic --dataset wider_att --profile paper --dialect bvlc
#
#   ./run_train_wider_att.sh IMAGENET.caffemodel
#
# Step 1 starts from a pre-activation ResNet-101 trained on ImageNet, its layers named as here. He's
# published weights bear many of these names, but are of another structure: for them there is the profile
# postact; the classifier fc starts from its filler.
# CAFFE names Caffe's program (default: caffe on the PATH). A step whose weights are there already is left out.
set -eu
CAFFE=${CAFFE:-caffe}
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
  echo "usage: $0 IMAGENET.caffemodel (a file)" >&2
  exit 2
fi
IMAGENET=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
for database in \
  datasets/wider_att/wider_att_train_image_lmdb \
  datasets/wider_att/wider_att_train_label_lmdb \
  datasets/wider_att/wider_att_test_image_lmdb \
  datasets/wider_att/wider_att_test_label_lmdb
do
  if [ ! -e "$database" ]; then
    echo "$0: $(pwd)/$database is missing; the headers of the train_val nets say how it is made" >&2
    exit 2
  fi
done
mkdir -p snapshots

# train SOLVER WEIGHTS RESULT
train() {
  if [ -f "$3" ]; then
    echo "$3 is there already: $1 is left out"
  else
    "$CAFFE" train --solver="$1" --weights="$2" --gpu=0,1,2,3
  fi
}

# step 1: the main net alone, from ImageNet weights
train step_1_resnet101_solver.prototxt "$IMAGENET" snapshots/step_1_resnet101_iter_8859.caffemodel
# step 2: the new layers, with the main net fixed
train step_2_resnet101_semantic_solver.prototxt snapshots/step_1_resnet101_iter_8859.caffemodel snapshots/step_2_resnet101_semantic_iter_8859.caffemodel
# step 3: the whole net
train step_3_resnet101_semantic_finetune_solver.prototxt snapshots/step_2_resnet101_semantic_iter_8859.caffemodel snapshots/step_3_resnet101_semantic_finetune_iter_8859.caffemodel
