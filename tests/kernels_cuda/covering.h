/* covering.h - shapes for tests of kernels: as few cases as cover every pair of values of any two axes, none of more
 * than work_max multiply-adds (pairs that only larger shapes could cover are left out, and counted). The same set on
 * every machine. */
#ifndef OC_TESTS_COVERING_H
#define OC_TESTS_COVERING_H

#include <stdbool.h>
#include <stdint.h>

enum { COVERING_AXES = 6, COVERING_VALUES = 8, COVERING_CASES_MAX = 128 };
typedef struct covering_axis {
    const char *name;
    int count, value[COVERING_VALUES];
} covering_axis;
typedef struct covering_case {
    int value[COVERING_AXES];
} covering_case;
typedef struct covering_set {
    int count, pairs, pairs_left_out;
    covering_case row[COVERING_CASES_MAX];
} covering_set;
typedef int64_t (*covering_work)(const covering_case *c); /* multiply-adds */

/* Greedy: each case is the one of many drawn candidates that covers most pairs still open. */
void covering_make(covering_set *out, const covering_axis *axes, int axis_count, covering_work work, int64_t work_max);
/* Pairs that no row covers though one within the work could: 0, or the set is broken. */
int covering_open(const covering_set *set, const covering_axis *axes, int axis_count, covering_work work,
                  int64_t work_max);

/* The axes of the issue: B, T, F, H, math (oc_math), and the variant of kernels/cuda/choice.cuh by number. What a
 * variant does not serve is more work than there is. */
enum {
    COVERING_BATCH,
    COVERING_STEPS,
    COVERING_INPUTS,
    COVERING_HIDDEN,
    COVERING_MATH,
    COVERING_VARIANT,
    COVERING_LSTM_AXES,
    COVERING_VARIANTS = 6
};
extern const covering_axis covering_lstm[COVERING_LSTM_AXES];
extern const char *const covering_variants[COVERING_VARIANTS]; /* odd ones: layers as a wavefront */
int covering_lstm_layers(const covering_case *c);
int64_t covering_lstm_work(const covering_case *c); /* forward and backward */
static const int64_t COVERING_WORK_MAX = 50000000;

#endif
