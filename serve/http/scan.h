/* scan.h - the one large thing in an inference request as JSON: the numbers of inputs[0].data. A JSON library builds a
 * node a number (about 15 MB/s); here they go straight into floats, and out of the text, and the library reads the
 * rest. */
#ifndef OC_SERVE_HTTP_SCAN_H
#define OC_SERVE_HTTP_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

/* text [bytes], NUL behind it, is one JSON value. Finds the first key "data" three levels deep (object, array, object)
 * whose value is an array; reads its numbers (nested arrays in order, correctly rounded to f32) into values and leaves
 * "[]" in the text, which becomes shorter: *bytes. *found false and the text untouched where there is none. A second
 * one is refused, as are numbers that JSON does not know and those beyond f32. OC_EDATA with a message; nothing else in
 * the text is checked. */
OC_MUST oc_scan_data(char *text, size_t *bytes, float *values, size_t values_cap, size_t *count, bool *found);

#endif
