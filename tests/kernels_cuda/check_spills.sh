#!/bin/sh
# check_spills.sh REASON MODULE CUOBJDUMP: no persistent or resident kernel of the CUDA module keeps registers in local memory, for any
# device it was compiled for. Where there is no module REASON says why, and the test is skipped.
set -eu
[ -z "$1" ] || { echo "skipped: $1"; exit 77; }
command -v "$3" > /dev/null || { echo "skipped: no cuobjdump (the build has refused spills: kernels/CMakeLists.txt)"; exit 77; }
"$3" --dump-resource-usage "$2" | awk '
    /^Fatbin|arch = / { if ($1 == "arch") arch = $3 }
    /Function / { kernel = $2; sub(/:$/, "", kernel) }
    /REG:/ && kernel ~ /lstm_scan|resident/ {
        count++
        for (i = 1; i <= NF; i++)
            if ($i ~ /^(STACK|LOCAL):/ && substr($i, index($i, ":") + 1) + 0 > 0) {
                print arch " " kernel " spills: " $0
                bad++
            }
    }
    END {
        print count + 0 " persistent and resident kernels looked at, " bad + 0 " with spills"
        exit bad > 0 || count < 24
    }'
