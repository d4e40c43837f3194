/* loop.h - the job: state, loop, and what is written when. All ranks hold the same state and take the same turns; only
 * rank 0 writes. */
#ifndef OC_TRAIN_LOOP_H
#define OC_TRAIN_LOOP_H

#include "train/checkpoint.h"
#include "train/run_log.h"

typedef struct train_job {
    const train_plan *plan;
    oc_comm *comm;
    train_engine *engine;
    train_weights w;
    train_counters c;
    train_step_result *results; /* of the running interval */
    train_origin origin;
    train_log log;
    const char *out; /* RUN, for messages */
    char checkpoints[4096];
    int64_t saved_ns, save_cost_ns;           /* of the last checkpoint */
    double communication;                     /* share of the loop's time, of this rank */
    int64_t spoken_ns;                        /* communication before this loop */
    int64_t windows_before;                   /* this loop: of the job */
    int64_t rank_windows[OC_TRAIN_RANKS_MAX]; /* this rank's own; of all once they have ended */
    int64_t paused_at;                        /* step at which train.pause_after stops; 0: none */
} train_job;

OC_MUST train_job_start(train_job *j); /* weights from the seed, counters zero, first line of the log */
OC_MUST train_job_loop(train_job *j);  /* until c.ended; OC_EAGAIN: asked to stop, saved */
OC_MUST train_job_save(train_job *j);  /* rank 0; the others only look at their weights */

#endif
