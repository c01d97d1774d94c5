#!/usr/bin/env bash
# Runs the sweep, then prints its table: training from scratch at every conv1
# width, and compression of the 64-channel network without and with fine-tuning.
#
#   ./run_experiments.sh demo                          # small, on drawn images
#   SEEDS="0 1 2" GPUS="0 1" ./run_experiments.sh      # a cell on each GPU
#   SEEDS="0 1 2" ./run_experiments.sh slurm --gpus=1  # with sbatch's options
#
# The same command continues an interrupted sweep; a stage is finished when the
# file `finished` in its folder says so. Settings come from the environment:
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
refuse() { echo "run_experiments.sh: $1" >&2; exit 2; }
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) ||
  refuse "bash $BASH_VERSION is too old; run it with bash 5.1 or later."

demo=
if [[ ${1:-} == demo ]]; then
  demo=yes; shift
  : "${DATA_DIR:=data/demo}" "${OUT:=runs/demo}" "${WIDTHS:=64 8}"
  : "${EPOCHS:=10}" "${CONTROLS=}"
  : "${MODES:=thinet_none thinet_scale}"
fi
: "${PYTHON:=python3}"              # Interpreter that has requirements.txt.
: "${DATA_DIR:=data}"               # Holds cifar-10-batches-bin, or will.
: "${OUT:=runs}"                    # Results, in OUT/seed<n>/<mode>_<width>.
: "${WIDTHS:=64 48 32 24 16 8}"     # Channels of conv1; 64 is the parent.
: "${SEEDS:=0}"
: "${SCHEDULE:=published}"         # From scratch; or fast.
: "${EPOCHS:=}"                     # From scratch; else as the schedule says.
: "${PRECISION:=float32}"           # Precision of trainings; or bfloat16.
: "${FINETUNE_EPOCHS:=20}"
# <criterion>_<reconstruction>; MODES are fine-tuned, CONTROLS are not.
: "${MODES:=thinet_none thinet_scale least_squares_full least_squares_network}"
: "${CONTROLS=l1_full l1_network random_full random_network}"
: "${JOBS:=1}"                      # Cells side by side; with GPUS="0 1",
: "${GPUS:=}"                       # one on each of these.

# checked NAME PATTERN REMEDY: refuses now what would end a sweep hours later.
checked() {
  local word
  for word in ${!1}; do
    [[ $word =~ ^($2)$ ]] || refuse "$1 has $word; $3."
  done
}
mode='(thinet|thinet_kept|least_squares|l1|random)_(none|scale|full|network)'
checked WIDTHS '[1-9]|[1-5][0-9]|6[0-4]' 'give numbers of channels, 1 to 64'
checked SEEDS '[0-9]+' 'give whole numbers, 0 or above'
checked FINETUNE_EPOCHS '[0-9.]*[1-9][0-9.]*' 'give a number above 0'
checked MODES "$mode" 'give names as thinet_none or least_squares_full'
checked CONTROLS "$mode" 'give names as l1_full or random_network'
checked JOBS '[1-9][0-9]*' 'give a number of cells, 1 or more'
export PYTHON DATA_DIR OUT WIDTHS SEEDS SCHEDULE EPOCHS PRECISION
export FINETUNE_EPOCHS MODES CONTROLS

# Programs run in the background, so that a signal reaches this shell at once;
# the shell then tells them to stop, and a training saves first.
stop() {
  trap '' INT TERM
  local children
  children=$(jobs -pr)
  # shellcheck disable=SC2086   # One word a process.
  [[ -z $children ]] || kill -TERM $children || true
  wait
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

run() {
  echo "+ $*"
  "$@" &
  wait "$!"
}

# evaluated FOLDER COMMAND...: runs the command, which makes a network in the
# folder, and evaluates it, unless both were done with the same settings. If the
# settings differ, the command itself decides whether the folder can be used.
evaluated() {
  local settings="RANDOM_STREAMS=2 DATA_DIR=$DATA_DIR SCHEDULE=$SCHEDULE"
  settings+=" EPOCHS=$EPOCHS PRECISION=$PRECISION"
  settings+=" FINETUNE_EPOCHS=$FINETUNE_EPOCHS"
  if [[ -f $1/eval.json && -f $1/finished ]]; then
    [[ $(<"$1/finished") == "$settings" ]] && return
  fi
  run "$PYTHON" "${@:2}" "--data_dir=$DATA_DIR"
  run "$PYTHON" cifar10_eval.py "--data_dir=$DATA_DIR" "--checkpoint_dir=$1"
  echo "$settings" > "$1/finished"
}

# cell STAGE SEED WIDTH: runs the training from scratch, or everything that is
# made from the seed's parent, which must be there.
cell() {
  local folder=$OUT/seed$2 mode slim
  if [[ $1 == scratch ]]; then
    evaluated "$folder/scratch_$3" cifar10_train.py "--seed=$2" \
      "--train_dir=$folder/scratch_$3" "--conv1_channels=$3" \
      "--schedule=$SCHEDULE" ${EPOCHS:+"--epochs=$EPOCHS"} \
      "--precision=$PRECISION"
    return
  fi
  for mode in $MODES $CONTROLS; do
    slim=$folder/${mode}_$3
    evaluated "$slim" thinet_compress.py "--seed=$2" "--output_dir=$slim" \
      "--checkpoint_dir=$folder/scratch_64" "--conv1_channels=$3" \
      "--criterion=${mode%_*}" "--reconstruction=${mode##*_}"
    [[ " $MODES " == *" $mode "* ]] || continue
    evaluated "${slim}_finetuned" thinet_finetune.py "--seed=$2" \
      "--checkpoint_dir=$slim" "--train_dir=${slim}_finetuned" \
      "--epochs=$FINETUNE_EPOCHS" "--precision=$PRECISION"
  done
}

read -ra seeds <<<"$SEEDS"
slim_widths=()
for width in $WIDTHS; do [[ $width == 64 ]] || slim_widths+=("$width"); done

# cells STAGE WIDTH...: runs these widths of every seed on the free devices.
read -ra free <<<"${GPUS:-$(seq -s ' ' "$JOBS")}"
declare -A device_of
reap() {
  local ended status=0
  wait -n -p ended || status=$?
  ((status == 0)) || stop "$status"
  free+=("${device_of[$ended]}")
  unset "device_of[$ended]"
}
cells() {
  local seed width
  for width in "${@:2}"; do
    for seed in "${seeds[@]}"; do
      ((${#free[@]})) || reap
      env ${GPUS:+"CUDA_VISIBLE_DEVICES=${free[0]}"} \
        ./run_experiments.sh cell "$1" "$seed" "$width" &
      device_of[$!]=${free[0]}
      free=("${free[@]:1}")
    done
  done
  while ((${#device_of[@]})); do reap; done
}

# submitted NAME COMMAND OPTION...: submits a Slurm job, which continues when
# requeued, and prints its number.
submitted() {
  sbatch --parsable --requeue --kill-on-invalid-dep=yes "--job-name=$1" \
    "--wrap=exec $2" "${@:3}" | cut -d ';' -f 1
}
# Submits for each seed the parent, an array of the other trainings, and an
# array of the compressions, which waits for the parent; then the report.
slurm() {
  local cell='./run_experiments.sh cell' all='' seed parent
  local array=${slim_widths[*]} width="\$SLURM_ARRAY_TASK_ID"
  array=--array=${array// /,}
  for seed in "${seeds[@]}"; do
    parent=$(submitted "scratch-$seed-64" "$cell scratch $seed 64" "$@")
    all+=:$parent
    ((${#slim_widths[@]})) || continue
    all+=:$(submitted "scratch-$seed" "$cell scratch $seed $width" "$array" \
      "$@")
    all+=:$(submitted "slim-$seed" "$cell slim $seed $width" "$array" \
      "--dependency=afterok:$parent" "$@")
  done
  submitted report \
    "\"\$PYTHON\" results/report.py \"\$OUT\"${demo:+ --published=}" \
    "--dependency=afterany$all" "$@"
}

case "${1:-}" in
  '' | slurm) [[ -z $demo ]] || run "$PYTHON" tests/demo_data.py "$DATA_DIR" ;;&
  '')
    cells scratch 64 "${slim_widths[@]}"
    cells slim "${slim_widths[@]}"
    run "$PYTHON" results/report.py "$OUT" ${demo:+--published=} ;;
  slurm) slurm "${@:2}" ;;
  cell) cell "${@:2}" ;;
  *) echo "usage: $0 [demo] [slurm [sbatch options]]" >&2; exit 2 ;;
esac
