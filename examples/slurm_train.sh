#!/bin/bash
# Train on all GPUs of a node: `sbatch slurm_train.sh`. For more nodes, raise --nodes.
# The folders and the model must lie on a disk that all nodes see.
#SBATCH --job-name=napari-unet
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1        # torchrun starts one process for each GPU
#SBATCH --gpus-per-node=2
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120          # two minutes before the end: stop, keep the best
#SBATCH --requeue                  # started again, it goes on: see --resume below
#SBATCH --open-mode=append

set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE))

srun torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="$SLURM_GPUS_ON_NODE" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first:29500" \
    --rdzv-id="$SLURM_JOB_ID" \
    -m napari_unet train \
    --images=images --masks=masks --out=cells.unet \
    --batch-size=32 --max-steps=20000 \
    --resume
