#!/bin/sh
# check_nccl.sh SOURCE_DIR COMPILER INCLUDE_DIR: what kernels/cuda/nccl_api.h declares of NCCL is what its header says. Skipped
# where the header is not there.
set -eu
source=$1 compiler=$2 cuda=$3
flags="-std=c++17 -w -fsyntax-only -I$source"
[ -n "$cuda" ] || { echo "skipped: no CUDA Toolkit"; exit 77; }
flags="$flags -isystem $cuda"
echo '#include <nccl.h>' | $compiler $flags -x c++ - 2> /dev/null || { echo "skipped: no nccl.h"; exit 77; }
$compiler $flags "$source/tests/kernels_cuda/nccl.cpp"
# The comparison would notice.
for fault in OC_PLANTED_VALUE OC_PLANTED_PARAMETERS; do
    $compiler $flags -D$fault "$source/tests/kernels_cuda/nccl.cpp" 2> /dev/null && { echo "$fault passes"; exit 1; }
done
exit 0
