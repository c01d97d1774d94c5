#!/usr/bin/env bash
# Runs the sweep, then prints its table: training from scratch at every conv1
# width and compression of the 64-channel network, without and with fine-tuning.
# With BUDGETS="0.5 0.25", also all layers at those shares of its costs.
#
#   ./run_experiments.sh demo                          # small, synthetic images
#   SEEDS="0 1 2" GPUS="0 1" ./run_experiments.sh      # a cell on each GPU
#   SEEDS="0 1 2" ./run_experiments.sh slurm --gpus=1  # with sbatch's options
#   ./run_experiments.sh plan                          # lists what it would do
#   ./run_experiments.sh status                        # how far it is
#
# The same command continues an interrupted sweep, and repeats nothing that
# results/status.py finds finished. Settings come from the environment, below
# with their defaults; blanks, commas or new lines separate the words of a list.
[ -n "${BASH_VERSION:-}" ] || { echo "run_experiments.sh: run it with bash." >&2
                                exit 2; }
set -feuo pipefail   # -f: no word of a setting is a file pattern.
SECONDS=0            # Not those of the environment.
refuse() { echo "run_experiments.sh: $1" >&2; exit 2; }
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) ||
  refuse "bash $BASH_VERSION is too old; run it with bash 5.1 or later."

arguments=("$@") demo=
if [[ ${1:-} == demo ]]; then
  demo=yes; shift
fi
usage() { echo "usage: $0 [demo] [plan | status | slurm [sbatch options]]"; }
case "${1:-}" in   # The last two are for the sweep itself and its Slurm jobs.
  plan | status) (($# == 1)) || { usage >&2; exit 2; } ;;
  '' | slurm | cell | table) ;;
  -h | --help) usage; exit ;;
  *) usage >&2; exit 2 ;;
esac
settings=(PYTHON DATA_DIR OUT WIDTHS BUDGETS SEEDS SCHEDULE EPOCHS PRECISION
          FINETUNE_EPOCHS MODES CONTROLS JOBS GPUS)
given=(DATA_DIR OUT)   # What a command that continues the sweep must repeat.
for name in "${settings[@]}"; do
  [[ -z ${!name+set} || $name == DATA_DIR || $name == OUT ]] || given+=("$name")
done

if [[ $demo ]]; then
  : "${DATA_DIR:=data/demo}" "${OUT:=runs/demo}" "${WIDTHS:=64 8}"
  : "${SCHEDULE:=fast}" "${EPOCHS:=6}" "${FINETUNE_EPOCHS:=3}" "${CONTROLS=}"
  : "${MODES=thinet_none least_squares_full}"
fi
: "${PYTHON:=python3}"              # Interpreter that has requirements.txt.
: "${DATA_DIR:=data}"               # Holds cifar-10-batches-bin, or will.
: "${OUT:=runs}"                    # Results, in OUT/seed<n>/<mode>_<size>.
: "${WIDTHS:=64 48 32 24 16 8}"     # Channels of conv1; 64 is the parent.
: "${BUDGETS:=}"                    # Shares of the parent's multiply-adds and
                                    # parameters, for all layers; as 0.25.
: "${SEEDS:=0}"
: "${SCHEDULE:=published}"         # From scratch; or fast.
declare -A epochs=([published]=128 [fast]=50)   # EPOCHS, from scratch.
: "${PRECISION:=float32}"           # Of trainings; or bfloat16, tf32 (GPUs).
: "${FINETUNE_EPOCHS:=20}"
# <criterion>_<reconstruction>; MODES are fine-tuned, CONTROLS are not.
: "${MODES=thinet_none thinet_scale least_squares_full least_squares_network}"
: "${CONTROLS=l1_full l1_network random_full random_network}"
: "${JOBS:=1}"                      # Cells side by side; with GPUS="0 1",
: "${GPUS:=}"                       # one on each of these.

# plain: strips needless zeros from the number in `word`.
plain() {
  word=${word#"${word%%[!0]*}"}
  [[ $word != *.* ]] || word=${word%"${word##*[!0]}"}
  word=${word%.}
  [[ $word == [1-9]* ]] || word=0$word
}
# words NAME LEAST MOST PATTERN REMEDY: splits a setting, and refuses now what
# would end a sweep hours later. Each word counts once, but GPUS as often as
# they are named.
words() {
  local word list=()
  for word in ${!1//,/ }; do
    [[ $word =~ ^($4)$ ]] || refuse "$1 has ${word@Q}; give $5."
    [[ ! $word =~ ^[0-9.]+$ ]] || plain
    [[ $1 != GPUS && " ${list[*]} " == *" $word "* ]] || list+=("$word")
  done
  ((${#list[@]} >= $2 && ${#list[@]} <= $3)) ||
    refuse "$1 has '${list[*]}'; give $5."
  printf -v "$1" %s "${list[*]}"
}
# absolute NAME: makes a path absolute, from the folder where the user stands.
absolute() {
  [[ ${!1} != *$'\n'* ]] || refuse "$1 has a new line in it; name another."
  [[ ${!1} == /* ]] || printf -v "$1" %s "$PWD/${!1#./}"
}
many=9999
mode='(thinet|thinet_kept|least_squares|l1|random)_(none|scale|full|network)'
number='0*[1-9][0-9]{0,5}([.][0-9]*)?|0*[.]0*[1-9][0-9]*'
words WIDTHS 1 $many '0*([1-9]|[1-5][0-9]|6[0-4])' \
  'numbers of channels, 1 to 64'
words BUDGETS 0 $many '0*[.](0[1-9]|[1-9])[0-9]{0,9}' \
  'shares of the parent, from 0.01 to below 1'
words SEEDS 1 $many '0*[0-9]{1,10}' 'whole numbers, 0 to 2147483647'
for word in $SEEDS; do
  ((word < 2 ** 31)) ||
    refuse "SEEDS has ${word@Q}; give whole numbers, 0 to 2147483647."
done
words SCHEDULE 1 1 'published|fast' 'published or fast'
: "${EPOCHS:=${epochs[$SCHEDULE]}}"
words EPOCHS 1 1 "$number" 'a number above 0 and below 1000000'
words FINETUNE_EPOCHS 1 1 "$number" 'a number above 0 and below 1000000'
words PRECISION 1 1 'float32|tf32|bfloat16' 'float32, tf32 or bfloat16'
words MODES 0 $many "$mode" 'names such as thinet_none least_squares_full'
words CONTROLS 0 $many "$mode" 'names such as l1_full random_network'
words JOBS 1 1 '0*[1-9][0-9]{0,2}' 'a number of cells, 1 to 999'
words GPUS 0 $many '[0-9]{1,4}|(GPU|MIG)-[A-Za-z0-9/-]+' 'numbers such as 0 1'
for word in $MODES; do   # What is fine-tuned is compressed already.
  CONTROLS=" $CONTROLS " CONTROLS=${CONTROLS/" $word "/ }
done
words CONTROLS 0 $many "$mode" ''
[[ ! $BUDGETS || $MODES$CONTROLS ]] ||
  refuse "BUDGETS has '$BUDGETS', but MODES and CONTROLS are empty; name one."
program=$(type -P -- "$PYTHON") ||
  refuse "PYTHON=$PYTHON is no program; name one that has requirements.txt."
PYTHON=$program
for name in PYTHON DATA_DIR OUT; do absolute $name; done
[[ ${1:-} != slurm ]] || type -P sbatch > /dev/null ||
  refuse "sbatch is not there; submit from a machine that has Slurm."
export "${settings[@]}"

stood=$PWD
self=$(readlink -f -- "${BASH_SOURCE[0]}")
here=${self%/*}
cd -- "$here"

# quoted WORD...: prints words as any shell reads them, a blank after each.
quoted() {
  local word
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=+-]+$ ]] || word="'${word//\'/"'\\''"}'"
    printf '%s ' "$word"
  done
}
# assigned NAME...: prints settings as NAME='value'.
assigned() {
  local name
  for name in "$@"; do printf '%s=' "$name"; quoted "${!name}"; done
}

# Programs run in the background, so that a signal reaches this shell at once.
declare -A device_of=() cell_of=()   # By process; of what runs at a time.
# halt CODE WHY: tells them to stop, upon which a training saves; waits for
# them, and says what continues the sweep.
halt() {
  trap '' "${signals[@]}"
  local children tenths=0 line
  children=$(jobs -pr)
  # Bash 5.2's own table may miss an end. One word a process:
  # shellcheck disable=SC2086
  while kill -0 $children "${!device_of[@]}"; do
    # Again later, should one have been too young to hear it; a paused one goes
    # on, so that it hears.
    ((tenths++ % 50)) || { kill -TERM $children
                           kill -CONT $children "${!device_of[@]}"; } || true
    sleep 0.1
  done 2> /dev/null
  case ${arguments[0]:-} in
    cell | table) line="${arguments[*]}: $2." ;;
    *) line="$2; continue with: $(assigned "${given[@]}")"
       line+=$(quoted bash "$self" "${arguments[@]}") ;;
  esac
  echo "run_experiments.sh: ${line% }" >&2 || true
  (($1 < 128)) || halted=yes
  exit "$1"
}
signals=(HUP INT QUIT PIPE TERM USR1 USR2 XCPU)   # Ignored ones stay so.
for name in "${signals[@]}"; do
  # shellcheck disable=SC2064   # The name as it is now.
  trap "halt $((128 + $(kill -l "$name"))) 'stopped by SIG$name'" "$name"
done

# run COMMAND...: prints a command, to be pasted anywhere, and runs it.
run() {
  local line
  line="+ $(quoted "$@")"
  echo "${line% }" 2> /dev/null ||
    halt 141 'stopped because the output was closed'
  "$@" &
  wait "$!"
}

# unfinished [CELL]: sets `left` to what is not finished, a line each: cells of
# the sweep, or networks of a cell, with a reason. Refuses what does not fit.
unfinished() { left=$("$PYTHON" results/status.py left "$@") || exit; }

# tell WHAT...: prints what results/status.py says of the sweep.
tell() {
  local code=0
  "$PYTHON" results/status.py "$@" || code=$?
  ((code != 141)) || halt 141 'stopped because the output was closed'
  ((code == 0)) || exit "$code"
}

# made NAME COMMAND...: runs the command, which makes and rates a network, if
# that is left in its cell.
made() {
  [[ $'\n'$left == *$'\n'"$1 "* ]] || return 0
  tell cell "${this[@]}" "$1"
  run "$PYTHON" "$here/$2" "${@:3}" "--data_dir=$DATA_DIR" --evaluate
}

# noted: holds a file while this cell runs, for `status`; it says then who does,
# and, if the cell fails, how. A convenience: without the file it goes on.
noted() {
  local note="$OUT/.cells/$1_$2_$3" file
  mkdir -p "$OUT/.cells" && exec {file}<> "$note" && flock -w 1 "$file" &&
    echo "process $$ on $HOSTNAME" > "$note" || return 0
  # shellcheck disable=SC2064   # The number as it is now.
  trap "code=\$?; [[ \$code == 0 || \${halted:-} ]] ||
    echo \"failed with exit code \$code\" > ${note@Q}" EXIT
} 2> /dev/null

# tuned SEED NETWORK: fine-tunes a network, if its cell says so.
tuned() {
  made "$2_finetuned" thinet_finetune.py "--seed=$1" \
    "--checkpoint_dir=$OUT/seed$1/$2" "--train_dir=$OUT/seed$1/$2_finetuned" \
    "--epochs=$FINETUNE_EPOCHS" "--precision=$PRECISION"
}
# trained SEED SIZE WIDTH...: trains from scratch, with flags for the widths,
# and fine-tunes.
trained() {
  made "scratch_$2" cifar10_train.py "--seed=$1" \
    "--train_dir=$OUT/seed$1/scratch_$2" "${@:3}" \
    "--schedule=$SCHEDULE" "--epochs=$EPOCHS" "--precision=$PRECISION"
  tuned "$1" "scratch_$2"
}

# cell STAGE SEED SIZE: runs the training from scratch, or everything that is
# made from the seed's parent, which must be finished. A size is a width of
# conv1, or a budget.
cell() {
  local is='^(scratch|slim) (0|[1-9][0-9]*) [1-9][0-9]*$'
  is+='|^slim (0|[1-9][0-9]*) budget0[.][0-9]*[1-9]$'
  [[ $# == 3 && "$1 $2 $3" =~ $is ]] ||
    refuse "cell ${*@Q} is none; give one as: cell scratch 0 8, or slim 0 8"
  local folder=$OUT/seed$2 mode slim this=("$@") widths
  local size=("--conv1_channels=$3")
  [[ $3 != budget* ]] ||
    size=("--multiply_adds=${3#budget}" "--parameters=${3#budget}")
  noted "$@"
  unfinished "$@"
  if [[ $1 == scratch ]]; then
    trained "$2" "$3" "${size[@]}"
  elif [[ $left == scratch_64\ * ]]; then
    halt 1 "its parent is not finished: ${left%%$'\n'*}"
  else
    for mode in $MODES $CONTROLS; do
      slim=${mode}_$3
      made "$slim" thinet_compress.py "--seed=$2" \
        "--output_dir=$folder/$slim" "--checkpoint_dir=$folder/scratch_64" \
        "${size[@]}" "--criterion=${mode%_*}" \
        "--reconstruction=${mode##*_}"
      tuned "$2" "$slim"
    done
    if [[ $3 == budget* ]]; then
      widths=$("$PYTHON" results/status.py widths "$@") || exit
      read -ra size <<<"$widths"   # None if no compression was made.
      ((!${#size[@]})) || trained "$2" "$3" "${size[@]}"
    fi
  fi
  unfinished "$@"
  [[ -z $left ]] || halt 1 "its programs ran, but ${left%%$'\n'*}"
  tell cell "$@"
}

# named NAME: copies lines, with the name before each, until there are no more.
named() {
  local line
  trap '' "${signals[@]}"
  while IFS= read -r line || [[ $line ]]; do
    printf '[%s] %s\n' "$1" "$line" || return 0
  done 2> /dev/null
}
read -ra free <<<"${GPUS:-$(seq -s ' ' "$JOBS")}"
reap() {
  local ended status=0
  wait -n -p ended || status=$?
  ((status == 0)) ||
    halt "$status" "cell ${cell_of[$ended]} failed with exit code $status"
  free+=("${device_of[$ended]}")
  unset "device_of[$ended]"
}
# cells STAGE: runs the cells of a stage that are left on the free devices.
cells() {
  local each lines stage seed size
  readarray -t lines <<<"$left"
  for each in "${lines[@]}"; do
    [[ $each == "$1 "* ]] || continue
    ((${#free[@]})) || reap
    read -r stage seed size <<<"$each"
    # Of a pipeline, `jobs -p` has the first process, and $! is the last.
    env ${GPUS:+"CUDA_VISIBLE_DEVICES=${free[0]}"} \
      bash "$self" cell "$stage" "$seed" "$size" 2>&1 |
      named "seed $seed $stage $size" &
    device_of[$!]=${free[0]} cell_of[$!]=$each
    free=("${free[@]:1}")
  done
  while ((${#device_of[@]})); do reap; done
}

# table [OPTION]: prints the table, which must not lack a cell.
table() {
  run "$PYTHON" "$here/results/report.py" "$OUT" "$@"
  unfinished
  [[ -z $left ]] || halt 1 "the table lacks cells: ${left//$'\n'/, }"
}

# submit NAME COMMAND OPTION...: submits a Slurm job, which continues when
# requeued; `job` is its number, `jobs` has all. Its settings travel in its
# script. Our options come last, so that they hold.
submit() {
  job=$(sbatch --requeue --kill-on-invalid-dep=yes "${@:3}" --parsable \
    "--job-name=$1" "--chdir=$stood" "--wrap=exec env $(
    assigned "${settings[@]}")$(quoted bash "$self")$2") ||
    halt 1 "sbatch failed${jobs:+; cancel the others: scancel${jobs//:/ }}"
  job=${job%%;*}
  jobs+=:$job
}
# Submits for each seed the parent, an array of the other trainings, and what
# waits for the parent: an array of the compressions and, as an array has whole
# numbers alone, a job for each budget; then the report.
slurm() {
  local job jobs='' seed parent widths=" $WIDTHS " width="\$SLURM_ARRAY_TASK_ID"
  local share size
  read -r widths <<<"${widths/ 64 / }" || true
  local array=--array=${widths// /,}
  for seed in $SEEDS; do
    submit "scratch-$seed-64" "cell scratch $seed 64" "$@"
    parent=$job
    [[ ! $widths ]] ||
      submit "scratch-$seed" "cell scratch $seed $width" "$@" "$array"
    [[ ! $widths || ! $MODES$CONTROLS ]] ||
      submit "slim-$seed" "cell slim $seed $width" "$@" "$array" \
        "--dependency=afterok:$parent"
    for share in $BUDGETS; do
      submit "slim-$seed-budget$share" "cell slim $seed budget$share" "$@" \
        "--dependency=afterok:$parent"
    done
  done
  submit report "table${demo:+ --published=}" "$@" "--dependency=afterany$jobs"
  echo "Submitted jobs ${jobs//:/ }; the report is the last."
}

case "${1:-}" in
  plan | status) tell "$1" ;;
  cell) "$@" ;;
  table) "$@"; tell made ;;
  *)
    unfinished
    tell plan ${1:+slurm}
    [[ -z $demo ]] || run "$PYTHON" "$here/tests/demo_data.py" "$DATA_DIR"
    if [[ ${1:-} == slurm ]]; then
      slurm "${@:2}"
    else
      cells scratch
      cells slim
      table ${demo:+--published=}
      tell made "$SECONDS"
    fi ;;
esac
