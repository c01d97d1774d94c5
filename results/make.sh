#!/usr/bin/env bash
# Makes the networks of results/networks.csv, for the seeds that it is given.
#
#   results/make.sh 0 1 2
#
# In RUNS (runs), from the images in DATA_DIR (data): the published grid, and
# beside it least squares without reconstruction, networks from scratch that are
# fine-tuned, too, and fine-tunings of one and five epochs; budgets; training
# from scratch with as much computation; the fast schedule. Several hours for a
# seed on two cores; the same command goes on where it was interrupted.
set -euo pipefail
(($#)) || { echo "usage: $0 SEED..." >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${RUNS:-runs} network=least_squares_network
export DATA_DIR=${DATA_DIR:-data} PYTHON=${PYTHON:-python3} SEEDS="$*"
export OUT=$runs/published

# tune SEED NETWORK TO [FLAG...]: fine-tunes a network of the published grid.
tune() {
  "$PYTHON" thinet_finetune.py "--data_dir=$DATA_DIR" "--seed=$1" --evaluate \
    "--checkpoint_dir=$OUT/seed$1/$2" "--train_dir=$OUT/seed$1/$3" "${@:4}"
}

controls="thinet_full thinet_network l1_full l1_network random_full random_network"
MODES="thinet_none thinet_scale least_squares_none least_squares_full $network" \
  CONTROLS="thinet_kept_scale $controls" ./run_experiments.sh
for seed; do
  for width in 48 32 24 16 8; do
    tune "$seed" "scratch_$width" "scratch_${width}_finetuned"
    for slim in "least_squares_none_$width" "${network}_$width"; do
      for epochs in 1 5; do
        tune "$seed" "$slim" "${slim}_finetuned_$epochs" "--epochs=$epochs"
      done
    done
  done
done

WIDTHS=64 BUDGETS="0.5 0.25 0.1" MODES=$network CONTROLS='' ./run_experiments.sh

for seed; do
  for width in 16 8; do
    "$PYTHON" benchmarks/equal_computation.py "--data_dir=$DATA_DIR" \
      "--seed=$seed" "--conv1_channels=$width" \
      "--output_dir=$OUT/seed$seed/equal_$width"
  done
done

OUT=$runs/fast SCHEDULE=fast WIDTHS="64 16 8" CONTROLS='' \
  MODES="least_squares_full $network" ./run_experiments.sh
"$PYTHON" results/report.py "$OUT" --differences
