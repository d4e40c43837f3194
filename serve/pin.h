/* pin.h - which core each batcher stays on, and which GPU it computes on. */
#ifndef OC_SERVE_PIN_H
#define OC_SERVE_PIN_H

#include "base/status.h"

/* text: "" or NULL: none, all cpus are -1; "auto": the last cores that this process may use, one each; or numbers, one
 * a batcher, as "2,3". OC_ECONFIG: not such a list, not as many as batchers, twice the same, or a core that this
 * process may not use. */
OC_MUST oc_pin_parse(const char *text, int threads, int *cpus);

/* text: "" or NULL: GPU 0 for all; or numbers of GPUs, as "0,1", one a batcher; where there are fewer numbers than
 * batchers, batchers share them in turn. OC_ECONFIG: not such a list, or more numbers than batchers. Whether a GPU is
 * there is for the backend to say. */
OC_MUST oc_gpus_parse(const char *text, int threads, int *devices);

#endif
