/* cli.h - what every subcommand of `outcry` shares: options from a table, --help, --set, --json, --quiet, --log-level.
 *
 * A subcommand is one thin file tools/cmd_NAME.c with one `const oc_command oc_command_NAME`, and one row in
 * tools/commands.h. It parses, calls a library, and fills `result`; logic there is misplaced. The parser is argp's. */
#ifndef OC_TOOLS_CLI_H
#define OC_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/json.h"
#include "base/status.h"

enum { OC_CLI_OPTIONS_MAX = 48, OC_CLI_ARGUMENTS_MAX = 4096, OC_CLI_SETS_MAX = 64 };

typedef struct oc_cli_option {
    const char *name;            /* long flag without "--" */
    const char *argument;        /* "FILE", "N", "NS"; NULL: a flag */
    const char *standard;        /* default as text, shown in --help; NULL: none */
    bool required;
    const char *help;            /* with the unit */
} oc_cli_option;

typedef struct oc_cli {
    const oc_cli_option *options;
    const char *values[OC_CLI_OPTIONS_MAX];    /* as given, else the default */
    bool given[OC_CLI_OPTIONS_MAX];
    const char *arguments[OC_CLI_ARGUMENTS_MAX];
    size_t argument_count;
    const char *sets[OC_CLI_SETS_MAX];
    size_t set_count;
    bool json, quiet, log_level_given;
    json_t *result;              /* object; printed as one line on stdout, last, with --json */
} oc_cli;

typedef struct oc_command {
    const char *name;
    const char *arguments;       /* "CONFIG", "INPUT..."; NULL: none */
    size_t arguments_min, arguments_max;
    const char *summary;         /* one line */
    const char *description;     /* what it reads and writes, units, an example */
    const oc_cli_option *options;               /* ends with a row whose name is NULL; may be NULL */
    bool config;                 /* reads a config: --set is offered */
    void (*help)(FILE *out);     /* more of --help, as it stands: a config's keys (oc_config_help); may be NULL */
    oc_status (*run)(oc_cli *cli);
} oc_command;

const char *oc_cli_text(const oc_cli *cli, const char *name);                 /* NULL where absent; asserts the name */
bool oc_cli_flag(const oc_cli *cli, const char *name);
bool oc_cli_given(const oc_cli *cli, const char *name);
OC_MUST oc_cli_int(const oc_cli *cli, const char *name, int64_t min, int64_t max, int64_t *out);   /* OC_EUSAGE */
OC_MUST oc_cli_real(const oc_cli *cli, const char *name, double min, double max, double *out);

/* Prints to stdout unless --json asked for the object alone. */
void oc_cli_say(const oc_cli *cli, const char *format, ...) OC_PRINTF(2, 3);
/* A first SIGINT, SIGTERM or SIGUSR1 (Slurm's --signal=USR1@60, and what mpirun passes on) asks for it; a second one
 * ends the program at once. */
void oc_cli_on_stop(void (*request)(void));
/* The log.level of a config, unless --log-level was given: the command line wins over a file. */
void oc_cli_log_level(const oc_cli *cli, const char *level);

#endif
