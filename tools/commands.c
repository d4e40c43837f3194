/* commands.c - the table behind commands.h. */
#include "tools/commands.h"

const oc_command *const oc_commands[] = {
#define OC_COMMAND_ROW(name) &oc_command_##name,
    OC_COMMANDS(OC_COMMAND_ROW)
#undef OC_COMMAND_ROW
};
const size_t oc_command_count = sizeof oc_commands / sizeof *oc_commands;
