#!/usr/bin/env bash
# Make the embedded small scene model: random scenes of procedural objects and of real furniture,
# one training over all of them, half precision. The same command resumes where it stopped.
#
#   pipelines/pretrain.sh FURNITURE OUT [STEPS] [further flags of datagen train]
#
# FURNITURE: the folder of Sweet Home 3D's packs (Debian: /usr/share/sweethome3d/furniture).
# OUT: gets the workspaces. On two cores the data take three quarters of an hour, and 1,000 steps
# (8,000 views) five to ten minutes.
set -euo pipefail

furniture=$(realpath "$1")
out=$2
steps=${3:-20000}
train_flags=("${@:4}")
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
cd "$out"

views() { # views ROOT VIEWS_PER_SCENE
  datagen render --root "$1" --views "$2" --resolution-px 192 --workers 2
  datagen encode --root "$1" --store latents --workers 2
}

# Scenes hold assets of the train split alone, 80 % by a hash of the asset_id: the rest is held out.
datagen assets --root procedural --num-objects 800 --seed 2 --workers 2
datagen layouts --root procedural --n 600 --min-objects 1 --max-objects 6 --split train --seed 2
views procedural 6

datagen assets --root procedural_12 --num-objects 400 --seed 1 --workers 2
datagen layouts --root procedural_12 --n 400 --min-objects 1 --split train --seed 1
views procedural_12 8

datagen assets --root furniture --source sweethome3d --source-path "$furniture" --workers 2
datagen layouts --root furniture --n 1000 --split train
views furniture 6

mkdir -p singles
ln -sfn ../furniture/assets singles/assets
datagen layouts --root singles --n 800 --min-objects 1 --max-objects 1 --split train
views singles 4

datagen train --root procedural --also procedural_12 singles furniture --mix-weights 3 1 1 1 \
  --no-low-rank-mean --max-steps "$steps" --batch-size 8 --lr 1.5e-3 --weight-decay 0.05 \
  --ema-decay 0.998 --val-views 96 --validate-every 400 --sample-every 0 --cache-gib 4 \
  "${train_flags[@]}"
python -m datagen.training.embedded.embed --model procedural/model/model \
  --out "$here/datagen/models/weights/small_scene_model"
