#!/usr/bin/env bash
# Runs the sweep: at every conv1 width training from scratch, and compression
# {none, scale} x {without, with} fine-tuning; then prints the table.
#
#   ./run_experiments.sh demo                 # small, on drawn images, 3 minutes
#   ./run_experiments.sh                      # the whole sweep on CIFAR-10
#   SEEDS="0 1 2" WIDTHS="64 16" ./run_experiments.sh
#
# The same command again continues where it was stopped: a stage is finished
# when its own eval.json is there. Settings come from the environment:
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

case "${1:-}" in
  '') ;;
  demo)
    : "${DATA_DIR:=data/demo}" "${OUT:=runs/demo}" "${WIDTHS:=64 8}"
    : "${EPOCHS:=10}" "${FINETUNE_EPOCHS:=4}" ;;
  *) echo "usage: $0 [demo]" >&2; exit 2 ;;
esac
: "${PYTHON:=python3}"              # Interpreter that has requirements.txt.
: "${DATA_DIR:=data}"               # Holds cifar-10-batches-bin, or will.
: "${OUT:=runs}"                    # Results, in OUT/seed<n>/<mode>_<width>.
: "${WIDTHS:=64 48 32 24 16 8}"     # Channels of conv1; 64 is the parent.
: "${SEEDS:=0}"
: "${EPOCHS:=128}"                  # From scratch.
: "${FINETUNE_EPOCHS:=20}"

# A stage runs in the background, so that a signal reaches this shell at once;
# the stage is then told to stop, and a training saves before it does.
child=
stop() {
  trap '' INT TERM
  if [[ -n $child ]]; then
    kill -TERM "$child" 2>/dev/null || true
    wait "$child" || true
  fi
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

run() {
  echo "+ $*"
  "$@" &
  child=$!
  wait "$child"
  child=
}

# evaluated FOLDER COMMAND...: runs the command, which fills the folder, and
# evaluates it, unless that was done before.
evaluated() {
  local folder=$1
  shift
  [[ -f $folder/eval.json ]] && return
  run "$@"
  run "$PYTHON" cifar10_eval.py "--data_dir=$DATA_DIR" \
    "--checkpoint_dir=$folder"
}

scratch() {
  local folder=$1 width=$2 seed=$3
  evaluated "$folder" "$PYTHON" cifar10_train.py "--data_dir=$DATA_DIR" \
    "--train_dir=$folder" "--conv1_channels=$width" "--seed=$seed" \
    "--epochs=$EPOCHS"
}

if [[ ${1:-} == demo ]]; then
  run "$PYTHON" tests/demo_data.py "$DATA_DIR"
fi

for seed in $SEEDS; do
  parent=$OUT/seed$seed/scratch_64
  scratch "$parent" 64 "$seed"
  for width in $WIDTHS; do
    [[ $width == 64 ]] && continue
    scratch "$OUT/seed$seed/scratch_$width" "$width" "$seed"
    for mode in none scale; do
      slim=$OUT/seed$seed/thinet_${mode}_$width
      evaluated "$slim" "$PYTHON" thinet_compress.py "--data_dir=$DATA_DIR" \
        "--checkpoint_dir=$parent" "--output_dir=$slim" "--seed=$seed" \
        "--conv1_channels=$width" "--reconstruction=$mode"
      evaluated "${slim}_finetuned" "$PYTHON" thinet_finetune.py \
        "--data_dir=$DATA_DIR" "--checkpoint_dir=$slim" \
        "--train_dir=${slim}_finetuned" "--seed=$seed" \
        "--epochs=$FINETUNE_EPOCHS"
    done
  done
done

run "$PYTHON" results/report.py "$OUT"
