/* comm_open.c - who started this process, and can it join the others? Without a launcher MPI is never touched, so that
 * a job of one process pays nothing for it and works where only the library lies about. */
#include <stdio.h>
#include <stdlib.h>

#include "train/comm_store.h"
#ifdef OUTCRY_MPI
#include "train/comm_mpi.h"
#endif

/* SLURM_NTASKS is set in a batch script too, which is one process; the step's count only where srun started it. */
static const struct {
    const char *variable, *launcher;
} launchers[] = {{"OMPI_COMM_WORLD_SIZE", "mpirun"}, {"PMI_SIZE", "mpiexec"}, {"SLURM_STEP_NUM_TASKS", "srun"}};

/* Ranks that the launcher started, 1 and "no launcher" where there is none. */
static int launched(const char **launcher)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const char *text = getenv(launchers[i].variable);
        char *end;
        if (!text || !*text) continue;
        long ranks = strtol(text, &end, 10);
        *launcher = launchers[i].launcher;
        if (*end == '\0' && ranks >= 1 && ranks <= OC_COMM_RANKS_MAX) return (int)ranks;
        return -1;
    }
    *launcher = "no launcher";
    return 1;
}

#ifdef OUTCRY_MPI
static oc_status ranks_join(oc_comm *out, const char *launcher, int ranks, int64_t timeout_ns)
{
    OC_TRY(oc_comm_mpi_open(out, timeout_ns));
    int found = out->ranks;
    if (found == ranks) return OC_OK;
    oc_comm_close(out, OC_OK); /* each is a world of its own: there is nobody to tell */
    return OC_FAIL(OC_EFAILED,
                   "%s started %d ranks, but MPI knows of %d: launcher and MPI do not fit; with Slurm: srun --mpi=pmix",
                   launcher, ranks, found);
}

static const char *mpi_text(void)
{
    return oc_comm_mpi_version();
}
#else
static oc_status ranks_join(oc_comm *out, const char *launcher, int ranks, int64_t timeout_ns)
{
    (void)out;
    (void)timeout_ns;
    return OC_FAIL(OC_EFAILED,
                   "%s started %d ranks, but this build has no MPI, so each would train alone: install libopenmpi-dev, "
                   "configure and build again, or start it without %s",
                   launcher, ranks, launcher);
}

static const char *mpi_text(void)
{
    return "this build has no MPI: one rank";
}
#endif

oc_status oc_comm_open(oc_comm *out, const oc_comm_place *place, int64_t timeout_ns)
{
    const char *launcher;
    int ranks = launched(&launcher);
    *out = oc_comm_single();
    if (place) {
        OC_TRY(oc_comm_store_open(out, place, timeout_ns));
        return OC_OK;
    }
    if (ranks == 1) return OC_OK;
    if (ranks < 1)
        return OC_FAIL(OC_EFAILED, "%s started more than %d ranks, or says no number of them", launcher,
                       OC_COMM_RANKS_MAX);
    OC_TRY(ranks_join(out, launcher, ranks, timeout_ns));
    return OC_OK;
}

const char *oc_comm_about(void)
{
    static char text[256];
    const char *launcher;
    int ranks = launched(&launcher);
    snprintf(text, sizeof text, "%s; %s, %d rank%s", mpi_text(), launcher, ranks, ranks == 1 ? "" : "s");
    return text;
}
