/* progress.h - progress of work that may take over two seconds, on stderr: a bar with rate and time left on a
 * terminal, a line every five seconds elsewhere, nothing when quiet. Nothing is printed in the first half second. */
#ifndef OC_BASE_PROGRESS_H
#define OC_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct oc_progress {
    const char *what, *unit;                   /* literals: "build", "rows" */
    uint64_t total, done, base;                /* total 0: unknown; base: done before this run (resume) */
    int64_t start_ns, shown_ns;
    bool quiet, terminal;
    char extra[160];                           /* free text at the end: "loss 0.98" */
} oc_progress;

void oc_progress_set_quiet(bool quiet);        /* of the process; --quiet */
void oc_progress_start(oc_progress *p, const char *what, const char *unit, uint64_t total);
void oc_progress_update(oc_progress *p, uint64_t done);               /* cheap: looks at the clock, seldom prints */
void oc_progress_extra(oc_progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void oc_progress_finish(oc_progress *p);

#endif
