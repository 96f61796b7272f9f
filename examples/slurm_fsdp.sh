#!/bin/bash
# NPO on TOFU on two nodes with eight A100s each:
#
#     sbatch examples/slurm_fsdp.sh path/to/model path/to/tofu path/to/unlearned [more options of fsdp_tofu.py]
#
# Submit it from the repository's root, with the environment activated that unlearnkit is installed in. Paths have to be
# on a file system that all nodes see.

#SBATCH --job-name=unlearn
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append          # a job that is started again goes on writing to the same file

#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1         # one torchrun on each node, which starts one process for each GPU
#SBATCH --gpus-per-node=8           # a100:8 where there are several kinds
#SBATCH --cpus-per-task=64
#SBATCH --mem=0                     # all memory of a node: each process reads the whole model before it is divided
#SBATCH --exclusive
#SBATCH --time=04:00:00

# 120 seconds before the time is up, torchrun gets SIGTERM and passes it on: the run finishes its step, saves its state and
# ends. Take more than 120 seconds if a step and a state need more. --requeue: the job may be queued again after that.
#SBATCH --signal=TERM@120
#SBATCH --requeue

set -euo pipefail
if (( $# < 3 )); then
    echo "usage: sbatch examples/slurm_fsdp.sh MODEL TOFU OUT [more options of fsdp_tofu.py]" >&2
    exit 2
fi
model=$1 tofu=$2 out=$3
states=$out-run

gpus=${SLURM_GPUS_ON_NODE:-8}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$(( 20000 + SLURM_JOB_ID % 20000 ))                    # one of its own for each job on that node
export OMP_NUM_THREADS=$(( SLURM_CPUS_PER_TASK / gpus ))
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK              # srun does not take it over from sbatch by itself

newest() { if [[ -d $states ]]; then find "$states" -maxdepth 1 -name 'step-*[0-9]' | sort | tail -n 1; fi; }
begun_from=$(newest)

# After SIGTERM torchrun waits for its processes (30 seconds, if not told otherwise), and then ends with an error, whatever
# they did. What counts is on the disk.
status=0
srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_NNODES" --nproc-per-node="$gpus" \
    --rdzv-backend=c10d --rdzv-endpoint="$head:$port" --rdzv-id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" \
    --shutdown-timeout=110 \
    examples/fsdp_tofu.py --model "$model" --tofu "$tofu" --out "$out" --checkpoints "$states" "${@:4}" || status=$?

# Not done, but further than it was: queue the job again, and it goes on from the newest state. A run that gets nowhere
# is left as it is, with what it said in the log.
if [[ ! -e $out && $(newest) != "$begun_from" ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
