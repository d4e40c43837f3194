/* library_case.h - what tests of the vendor's libraries share: shapes, one pass of training against naive double
 * precision, a pass that must fail, a pass that is recorded; and whether the library is there. In emulation doubles
 * stand in (tests/emulation/fake_*.cpp). */
#ifndef OC_TESTS_LIBRARY_CASE_H
#define OC_TESTS_LIBRARY_CASE_H

#include "kernels_cuda/lstm_case.h"

enum { LIBRARY_SHAPES = 6 };
extern const oc_lstm_shape library_shapes[LIBRARY_SHAPES];
extern bool library_emulated; /* filled by library_there */

/* False, with the reason printed as "skipped: …", where it is not: on a GPU alone. */
bool library_there(const char *name);
bool library_good(const lstm_case *c, lstm_errors *e); /* within the bounds of its math, in two orders of threads */
/* Opening, or one pass forward and backward, fails with a message that has `word` in it. */
void library_fails_with(oc_math math, const char *word);
void library_records(oc_math math); /* a recorded pass gives the bits of one that is not */
/* Teardown of a test: memory, and what it put into the environment. */
int library_release(void **state);

#endif
