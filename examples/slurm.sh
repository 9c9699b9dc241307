#!/bin/bash
#SBATCH --job-name=fiftyone-milvus
#SBATCH --array=0-15
#SBATCH --gres=gpu:1
# Embed a dataset on a Slurm cluster, one part in each task of the array:
#
#   job=$(sbatch --parsable slurm.sh DATASET BRAIN_KEY)
#   sbatch --dependency=afterany:$job --wrap "fiftyone-milvus sync DATASET BRAIN_KEY"
#
# The second job adds what a task left out, removes stale vectors and reports. Every node needs the
# media at the same paths, a Milvus server, and FIFTYONE_DATABASE_URI. To repeat one task, pass its
# numbers: a smaller array would be split in another way.
set -euo pipefail

fiftyone-milvus sync "$1" "$2" --shard
