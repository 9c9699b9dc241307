#!/bin/bash
# Embed a dataset with GNU parallel, N parts at a time: parallel.sh DATASET BRAIN_KEY N
#
# With --sshloginfile, the parts run on other machines. The last command adds what a part left out,
# removes stale vectors and reports.
set -euo pipefail

seq 0 $(($3 - 1)) | parallel --line-buffer fiftyone-milvus sync "$1" "$2" --shard "{}/$3" || true
fiftyone-milvus sync "$1" "$2"
