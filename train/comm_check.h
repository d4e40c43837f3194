/* comm_check.h - before a long job: what the ranks of a launcher are, and how well they reach each other. All ranks
 * call it and all get the same report. Every exchange ends in bounded time; a rank that does not come is named. */
#ifndef OC_TRAIN_COMM_CHECK_H
#define OC_TRAIN_COMM_CHECK_H

#include "train/comm.h"

enum { OC_CHECK_SIZES = 4, OC_CHECK_LINES = 16, OC_CHECK_LINE = 256 };

typedef struct oc_comm_self { /* what this rank says of its MPI and launcher, its GPU, its NCCL */
    const char *about, *gpu, *nccl;
} oc_comm_self;

typedef struct oc_comm_seat { /* a rank */
    char name[OC_COMM_NAME], build[64], about[192], gpu[160],
        nccl[32];                   /* about: MPI and launcher; nccl: version, or why none */
    int32_t cores, local;           /* cores it may use; ranks on its host */
    int64_t free_bytes;             /* memory of its host that can be had */
    int64_t skew_ns, skew_error_ns; /* its wall clock minus rank 0's, and the bound of what that may be wrong */
    double gather_us[OC_CHECK_SIZES], sum_us[OC_CHECK_SIZES]; /* medians */
} oc_comm_seat;

typedef struct oc_comm_report {
    int ranks, sizes;
    size_t bytes[OC_CHECK_SIZES]; /* of each rank, in an exchange */
    oc_comm_seat *seats;          /* [ranks] */
    int wrong_count, note_count;  /* wrong: a job would fail or lie; note: it would be slow */
    char wrong[OC_CHECK_LINES][OC_CHECK_LINE], note[OC_CHECK_LINES][OC_CHECK_LINE];
} oc_comm_report;

OC_MUST oc_comm_check(oc_comm *c, const oc_comm_self *self, int64_t timeout_ns, oc_comm_report *out);
void oc_comm_report_free(oc_comm_report *r);

/* One exchange that two clocks saw: when it ended by each, and how long it took there. Both lasted until both had
 * begun, so the ends lie at most one duration apart. The round that bounds best decides. */
typedef struct oc_clock_round {
    int64_t wall_ns, took_ns;
} oc_clock_round;
void oc_clock_skew(const oc_clock_round *first, const oc_clock_round *other, int rounds, int64_t *skew_ns,
                   int64_t *error_ns);

#endif
