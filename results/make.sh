#!/usr/bin/env bash
# Makes the networks that replace those of results/networks.csv, seed by seed.
#
#   results/make.sh 0 1 2
#
# In RUNS (runs), from the images in DATA_DIR (data): the published grid, also
# with channels chosen by least squares and at random, but no reconstruction;
# fine-tunings of one and five epochs; budgets; training from scratch with as
# much computation; the fast schedule. A dozen hours for a seed on two cores;
# the same command goes on where it was interrupted. PYTHON, JOBS and GPUS are
# the sweep's; what is no part of a sweep runs alone, on the first of the GPUS.
set -euo pipefail
(($#)) || { echo "usage: $0 SEED..." >&2; exit 2; }
for seed; do
  [[ $seed =~ ^(0|[1-9][0-9]{0,8})$ ]] ||
    { echo "$0: ${seed@Q} is no seed; give whole numbers, as 0 1 2." >&2
      exit 2; }
done
PYTHON=$(type -P -- "${PYTHON:-python3}") ||
  { echo "$0: PYTHON is no program; name one that has requirements.txt." >&2
    exit 2; }
PYTHON=$(realpath -s -- "$PYTHON")
list=${GPUS:-}
read -rd '' -a gpus <<<"${list//,/ }" || true
DATA_DIR=$(realpath -m -- "${DATA_DIR:-data}")
runs=$(realpath -m -- "${RUNS:-runs}")
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
unset WIDTHS BUDGETS SCHEDULE EPOCHS FINETUNE_EPOCHS PRECISION
export PYTHON DATA_DIR SEEDS="$*" OUT=$runs/published
network=least_squares_network

# run COMMAND...: runs it so that a stop reaches it; a training saves then.
run() {
  "$@" &
  wait "$!"
}
# A program in the background ignores SIGINT, so it is sent SIGTERM.
stop() {
  # shellcheck disable=SC2046   # One word a process.
  kill -TERM $(jobs -pr) 2> /dev/null || true
  wait
  echo "$0: stopped; the same command goes on." >&2 || true
  exit 143
}
trap stop HUP INT QUIT TERM USR1 USR2 XCPU

# alone PROGRAM FLAG...: runs one of the programs.
alone() {
  run env ${gpus[0]:+"CUDA_VISIBLE_DEVICES=${gpus[0]}"} \
    "$PYTHON" "$1" "--data_dir=$DATA_DIR" "${@:2}"
}
# tune SEED NETWORK TO [FLAG...]: fine-tunes a network of the published grid.
tune() {
  alone thinet_finetune.py "--seed=$1" --evaluate \
    "--checkpoint_dir=$OUT/seed$1/$2" "--train_dir=$OUT/seed$1/$3" "${@:4}"
}

controls='thinet_full thinet_network l1_full l1_network random_full'
MODES="thinet_none thinet_scale least_squares_none least_squares_full
  random_none $network" CONTROLS="$controls random_network thinet_kept_scale" \
  run ./run_experiments.sh
for seed; do
  for slim in {least_squares_none,${network}}_{48,32,24,16,8}; do
    for epochs in 1 5; do
      tune "$seed" "$slim" "${slim}_finetuned_$epochs" "--epochs=$epochs"
    done
  done
done

WIDTHS=64 BUDGETS='0.5 0.25 0.1' MODES=$network CONTROLS='' \
  run ./run_experiments.sh
for seed; do
  for width in 16 8; do
    alone benchmarks/equal_computation.py "--seed=$seed" \
      "--conv1_channels=$width" "--output_dir=$OUT/seed$seed/equal_$width"
  done
done

OUT=$runs/fast SCHEDULE=fast WIDTHS='64 16 8' CONTROLS='' \
  MODES="least_squares_full $network" run ./run_experiments.sh
run "$PYTHON" results/report.py "$OUT" --differences
