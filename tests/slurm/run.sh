#!/usr/bin/env bash
# Tests the sweep on a real Slurm, on this machine alone; run it as root.
#
#   apt-get install -y slurmctld slurmd slurm-client munge
#   tests/slurm/run.sh /tmp/slurm
#
# Starts munge, a controller and a node of two processors, which live in the
# folder, and submits a small sweep four times, its jobs without an environment
# (--export=NONE). The parent's training reaches its time limit, then gets a
# signal ahead of it, and saves. Two other trainings run at a time; one is
# requeued, one killed with -9, and the last submission ends what is left. Then
# it runs the sweep serially, and compares the tables. Ends with "same tables",
# and stops what it started.
set -euo pipefail
[[ $# == 1 ]] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export SLURM_CONF=$folder/slurm.conf PYTHON=${PYTHON:-python3}
export WIDTHS='64 16 8' EPOCHS=40 FINETUNE_EPOCHS=2 MODES=thinet_scale CONTROLS=
export BUDGETS=0.5
export DATA_DIR="$folder/its data" OUT="$folder/sweep of 'three'"
mkdir -p "$folder/state" "$folder/spool" /run/munge
chown munge:munge /run/munge
cat > "$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmUser=root
ReturnToService=2
JobRequeue=1
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
munge=
pgrep -x munged > /dev/null || {
  runuser -u munge -- munged
  munge=/run/munge/munged.pid
}
trap 'scancel --quiet --user=root || true
      [[ -z $munge ]] || pkill -F "$munge" || true
      pkill -F "$folder/slurmd.pid" || true
      pkill -F "$folder/slurmctld.pid" || true' EXIT
slurmctld -c && slurmd -c

# waited SECONDS COMMAND...: repeats the command until it succeeds.
waited() {
  local left=$1
  until "${@:2}" > /dev/null; do
    ((left--)) || { echo "gave up waiting for: ${*:2}" >&2; exit 1; }
    sleep 1
  done
}
node_is_idle() { [[ $(sinfo -h -o %t) == idle ]]; }
two_run() { (($(squeue -h -r -t running | wc -l) >= 2)); }
training() { grep -qs 'step [0-9]' "$folder/$1-scratch-0_$2.log"; }
queue_is_empty() { [[ -z $(squeue -h) ]]; }
# submitted ROUND OPTION...: submits the sweep; its logs bear the round's name.
submitted() {
  ./run_experiments.sh slurm "--output=$folder/$1-%x_%a.log" \
    --open-mode=append --cpus-per-task=1 --mem=1000 "${@:2}"
}
# saved ROUND SIGNAL: requires that the parent's job was stopped so, and saved.
saved() {
  grep -h 'Stopped by SIGTERM and saved' "$folder/$1-scratch-0-64_"*.log
  grep -h "cell scratch 0 64: stopped by $2" "$folder/$1-scratch-0-64_"*.log
}

waited 60 node_is_idle
"$PYTHON" tests/demo_data.py "$DATA_DIR"

echo '--- a time limit'
export SBATCH_EXPORT=NONE
WIDTHS=64 BUDGETS='' submitted limit --time=1
waited 300 queue_is_empty
saved limit SIGTERM

echo '--- a signal ahead of the limit'
unset SBATCH_EXPORT
WIDTHS=64 BUDGETS='' submitted signal --export=NONE --time=2 --signal=B:USR1@60
waited 300 queue_is_empty
saved signal SIGUSR1

echo '--- a kill -9 and a requeue'
submitted kill --export=NONE
waited 60 two_run
echo 'two tasks at a time:'; squeue -r -o '%i %j %T %r %E'
waited 300 training kill 8
task=$(squeue -h -r -t running -o '%i %j' | sed -n 's/_8 scratch-0$/_8/p')
scontrol requeue "$task" && echo "requeued $task"
waited 300 training kill 16
# Who holds the folder of the training: process N on HOST.
read -r _ process _ < "$OUT/seed0/scratch_16/lock"
kill -9 "$process" && echo 'killed the training of 16'
waited 900 queue_is_empty
grep -h 'Continuing' "$folder/kill-scratch-0_8.log"
[[ ! -f $OUT/seed0/scratch_16/eval.json ]]
grep -h 'the table lacks cells' "$folder/kill-report_"*.log

echo '--- the rest'
submitted rest --export=NONE
waited 900 queue_is_empty

OUT=$folder/serial ./run_experiments.sh \
  > "$folder/serial.log" 2>&1
for table in table.csv budgets.csv; do
  cat "$folder/serial/$table"
  cmp "$folder/serial/$table" "$OUT/$table"
done
echo 'same tables'
