#!/bin/sh
# check_vendor.sh SOURCE_DIR COMPILER INCLUDE_DIR HEADER: what kernels/cuda declares of the vendor's library is what its header
# says. Skipped where the header is not there.
set -eu
source=$1 compiler=$2 include=$3 header=$4
[ -n "$include" ] || { echo "skipped: no CUDA Toolkit"; exit 77; }
[ -f "$include/$header" ] || { echo "skipped: no $header"; exit 77; }
flags="-std=c++17 -w -I$source -isystem $include"
$compiler $flags $source/tests/kernels_cuda/vendor.cpp -o ours
$compiler $flags -DOC_VENDOR $source/tests/kernels_cuda/vendor.cpp -o theirs
./ours > ours.txt
./theirs > theirs.txt
[ "$(wc -l < ours.txt)" -ge 40 ] || { echo "only $(wc -l < ours.txt) lines"; exit 1; }
diff ours.txt theirs.txt
wc -l < ours.txt
# The comparison would notice.
sed 's/COMPUTE_32F_FAST_TF32 = 77/COMPUTE_32F_FAST_TF32 = 78/' ours.txt | diff -q - theirs.txt > /dev/null && { echo "a planted fault passes"; exit 1; }
exit 0
