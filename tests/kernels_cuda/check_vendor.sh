#!/bin/sh
# check_vendor.sh SOURCE_DIR COMPILER INCLUDE_DIR NAME: what kernels/cuda declares of the vendor's library is what NAME.h says.
# Skipped where that header is not there.
set -eu
source=$1 compiler=$2 include=$3 name=$4
[ -n "$include" ] || { echo "skipped: no CUDA Toolkit"; exit 77; }
[ -f "$include/$name.h" ] || { echo "skipped: no $name.h"; exit 77; }
flags="-std=c++17 -w -I$source -isystem $include"
[ "$name" != cudnn ] || flags="$flags -DOC_DNN"
$compiler $flags "$source/tests/kernels_cuda/vendor.cpp" -o ours
$compiler $flags -DOC_VENDOR "$source/tests/kernels_cuda/vendor.cpp" -o theirs
./ours > ours.txt
./theirs > theirs.txt
[ "$(wc -l < ours.txt)" -ge 40 ] || { echo "only $(wc -l < ours.txt) lines"; exit 1; }
diff ours.txt theirs.txt
# The comparison would notice another value.
sed 's/^\(CU[A-Z_0-9a-z]*\) = 3$/\1 = 4/' ours.txt | diff -q - theirs.txt > /dev/null && { echo "a planted fault passes"; exit 1; }
echo "$(wc -l < ours.txt) lines agree"
