/* cmd_doctor.c - outcry doctor: what this machine offers and what would be chosen. */
#include "tools/commands.h"

static oc_status run(oc_cli *cli)
{
    (void)cli;
    return OC_OK;
}

const oc_command oc_command_doctor = {
    .name = "doctor",
    .summary = "Says what this machine offers and which backend would be chosen, and why",
    .description = "Prints the backends, the instruction sets and the reason of the choice.",
    .run = run,
};
