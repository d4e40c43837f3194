#!/bin/sh
# check_module.sh REASON MODULE: the CUDA module was built, and shows the program one name alone. Where there is no module
# REASON says why, and the test is skipped.
set -eu
[ -z "$1" ] || { echo "skipped: $1"; exit 77; }
names=$(nm -D --defined-only "$2" | awk '$2 ~ /[TDBRW]/ { print $3 }' | sort | tr '\n' ' ')
[ "$names" = "outcry_cuda_module " ] || { echo "$2 exports: $names"; exit 1; }
if nm -D --undefined-only "$2" | grep -E ' (oc_|cu[A-Z])'; then echo "$2 wants names that a machine without CUDA lacks"; exit 1; fi
