/* benches.h - the list of benches: name, what the figure means. One row adds one. */
#ifndef OC_TOOLS_BENCHES_H
#define OC_TOOLS_BENCHES_H

#include "tools/bench/bench.h"

#define OC_BENCHES(X)

#endif
