#!/bin/bash
# Segment a folder as a job array: `sbatch slurm_predict.sh`. No dask is needed.
# Images, model and results must lie on a disk that all nodes see.
#SBATCH --job-name=napari-unet-predict
#SBATCH --array=1-16               # into how many parts; any of them may run at any time
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue                  # started again, a part goes on where it ended

set -euo pipefail

export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"

napari-unet predict \
    --model=cells.unet --input=images --output=labels --measure \
    --shard="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"

# When all parts are through, the same without --shard does what is missing, and makes one
# ledger and one table:
#   sbatch --dependency=afterany:JOBID --wrap="napari-unet predict --model=cells.unet \
#       --input=images --output=labels --measure"
