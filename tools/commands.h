/* commands.h - the list of subcommands. One row adds one. */
#ifndef OC_TOOLS_COMMANDS_H
#define OC_TOOLS_COMMANDS_H

#include "tools/cli.h"

#define OC_COMMANDS(X)                                                                                                 \
    X(doctor)                                                                                                          \
    X(simulate)                                                                                                        \
    X(import)                                                                                                          \
    X(build)                                                                                                           \
    X(verify)                                                                                                          \
    X(train)                                                                                                           \
    X(predict)                                                                                                         \
    X(evaluate)                                                                                                        \
    X(study)                                                                                                           \
    X(report)                                                                                                          \
    X(export)                                                                                                          \
    X(backtest)                                                                                                        \
    X(replay)                                                                                                          \
    X(trade)                                                                                                           \
    X(serve)                                                                                                           \
    X(models)                                                                                                          \
    X(top)                                                                                                             \
    X(bench)

#define OC_COMMAND_DECLARE(name) extern const oc_command oc_command_##name;
OC_COMMANDS(OC_COMMAND_DECLARE)
#undef OC_COMMAND_DECLARE

extern const oc_command *const oc_commands[];
extern const size_t oc_command_count;

#endif
