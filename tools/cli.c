/* cli.c - one argp parser made from a command's table at run time. */
#include "tools/cli.h"

#include <argp.h>
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "tools/commands.h"

enum { KEY_FIRST = 0x1000, KEY_SET = 0x2000, KEY_JSON, KEY_QUIET, KEY_LOG_LEVEL, KEY_USAGE };

static size_t option_count(const oc_cli_option *options)
{
    size_t count = 0;
    while (options && options[count].name) count++;
    assert(count <= OC_CLI_OPTIONS_MAX);
    return count;
}

static size_t option_index(const oc_cli *cli, const char *name)
{
    for (size_t i = 0; i < option_count(cli->options); i++) {
        if (strcmp(cli->options[i].name, name) == 0) return i;
    }
    assert(!"a name that is not in the command's table");
    return 0;
}

const char *oc_cli_text(const oc_cli *cli, const char *name)
{
    return cli->values[option_index(cli, name)];
}

bool oc_cli_given(const oc_cli *cli, const char *name)
{
    return cli->given[option_index(cli, name)];
}

bool oc_cli_flag(const oc_cli *cli, const char *name)
{
    return oc_cli_given(cli, name);
}

oc_status oc_cli_int(const oc_cli *cli, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const char *text = oc_cli_text(cli, name);
    char *end = NULL;
    errno = 0;
    long long value = text ? strtoll(text, &end, 10) : 0;
    if (!text || end == text || *end || errno || value < min || value > max)
        return OC_FAIL(OC_EUSAGE, "--%s is \"%s\", not an integer from %lld to %lld", name, text ? text : "",
                       (long long)min, (long long)max);
    *out = value;
    return OC_OK;
}

oc_status oc_cli_real(const oc_cli *cli, const char *name, double min, double max, double *out)
{
    const char *text = oc_cli_text(cli, name);
    char *end = NULL;
    double value = text ? strtod(text, &end) : (double)NAN;
    if (!text || end == text || *end || !(value >= min && value <= max))
        return OC_FAIL(OC_EUSAGE, "--%s is \"%s\", not a number from %g to %g", name, text ? text : "", min, max);
    *out = value;
    return OC_OK;
}

void oc_cli_say(const oc_cli *cli, const char *format, ...)
{
    if (cli->json) return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

typedef struct parse_state {
    oc_cli *cli;
    const oc_command *command;
} parse_state;

static void (*stop_request)(void);

static void on_stop(int number)
{
    (void)number;
    stop_request();
}

void oc_cli_on_stop(void (*request)(void))
{
    struct sigaction action;
    const int numbers[] = {SIGINT, SIGTERM, SIGUSR1};
    memset(&action, 0, sizeof action);
    stop_request = request;
    action.sa_handler = on_stop;
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) (void)sigaction(numbers[i], &action, NULL);
}

void oc_cli_log_level(const oc_cli *cli, const char *text)
{
    oc_log_level level;
    if (!cli->log_level_given && oc_log_level_parse(text, &level)) oc_log_set_level(level);
}

/* argp's own help, then what it would wrap: tables in columns. */
static void help_print(const oc_command *command, struct argp_state *state)
{
    argp_state_help(state, stdout, ARGP_HELP_STD_HELP & ~(unsigned)ARGP_HELP_EXIT_OK);
    if (command->config) printf("\nKeys of the configuration, for the file or --set KEY.PATH=VALUE [default]:\n");
    if (command->help) command->help(stdout);
    exit(fflush(stdout) == 0 ? 0 : 1);
}

static error_t parse_common(int key, char *argument, struct argp_state *state)
{
    parse_state *s = state->input;
    oc_cli *cli = s->cli;
    oc_log_level level;
    switch (key) {
    case '?':
        help_print(s->command, state);
        return 0;
    case KEY_USAGE:
        argp_state_help(state, stdout, ARGP_HELP_USAGE | ARGP_HELP_EXIT_OK);
        return 0;
    case KEY_SET:
        if (!strchr(argument, '=')) argp_error(state, "--set takes key.path=value, not \"%s\"", argument);
        if (cli->set_count == OC_CLI_SETS_MAX) argp_error(state, "more than %d --set", OC_CLI_SETS_MAX);
        cli->sets[cli->set_count++] = argument;
        return 0;
    case KEY_JSON:
        cli->json = true;
        return 0;
    case KEY_QUIET:
        cli->quiet = true;
        return 0;
    case KEY_LOG_LEVEL:
        if (!oc_log_level_parse(argument, &level)) argp_error(state, "--log-level is one of error, warn, info, debug");
        oc_log_set_level(level);
        cli->log_level_given = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    parse_state *s = state->input;
    oc_cli *cli = s->cli;
    size_t options = option_count(s->command->options);
    if (key >= KEY_FIRST && key < KEY_FIRST + (int)options) {
        cli->values[key - KEY_FIRST] = argument ? argument : "";
        cli->given[key - KEY_FIRST] = true;
        return 0;
    }
    switch (key) {
    case ARGP_KEY_ARG:
        if (cli->argument_count == s->command->arguments_max || cli->argument_count == OC_CLI_ARGUMENTS_MAX)
            argp_error(state, "too many arguments at \"%s\"", argument);
        cli->arguments[cli->argument_count++] = argument;
        return 0;
    case ARGP_KEY_END:
        if (cli->argument_count < s->command->arguments_min) argp_error(state, "%s is missing", s->command->arguments);
        for (size_t i = 0; i < options; i++) {
            if (s->command->options[i].required && !cli->given[i])
                argp_error(state, "--%s is missing", s->command->options[i].name);
        }
        return 0;
    default:
        return parse_common(key, argument, state);
    }
}

/* Fills argp's table; help texts carry the default and belong to `helps`. */
static void options_fill(const oc_command *command, struct argp_option *out, char **helps)
{
    size_t n = 0;
    for (size_t i = 0; i < option_count(command->options); i++) {
        const oc_cli_option *o = &command->options[i];
        if (asprintf(&helps[i], "%s%s%s%s", o->help, o->standard ? " [" : "", o->standard ? o->standard : "",
                     o->standard   ? "]"
                     : o->required ? " (required)"
                                   : "") < 0)
            abort();
        out[n++] = (struct argp_option){o->name, KEY_FIRST + (int)i, o->argument, 0, helps[i], 1};
    }
    if (command->config)
        out[n++] =
            (struct argp_option){"set", KEY_SET, "KEY.PATH=VALUE", 0, "overrides one key of the config; repeatable", 2};
    out[n++] = (struct argp_option){"json", KEY_JSON, NULL, 0, "one JSON object on stdout as the last line", 2};
    out[n++] = (struct argp_option){"quiet", KEY_QUIET, NULL, 0, "no progress on stderr", 2};
    out[n++] = (struct argp_option){"log-level", KEY_LOG_LEVEL, "LEVEL", 0, "error, warn, info or debug [info]", 2};
    out[n++] = (struct argp_option){"help", '?', NULL, 0, "this text", -1};
    out[n++] = (struct argp_option){"usage", KEY_USAGE, NULL, 0, "a short usage message", -1};
    out[n] = (struct argp_option){0};
}

static int command_run(const oc_command *command, int argc, char **argv)
{
    static oc_cli cli; /* large tables: not on the stack */
    struct argp_option options[OC_CLI_OPTIONS_MAX + 7];
    parse_state state = {&cli, command};
    char *doc = NULL, *helps[OC_CLI_OPTIONS_MAX] = {NULL}, name[64];
    if (asprintf(&doc, "%s\v%s", command->summary, command->description) < 0) return 1;
    options_fill(command, options, helps);
    cli.options = command->options;
    for (size_t i = 0; i < option_count(command->options); i++) cli.values[i] = command->options[i].standard;
    snprintf(name, sizeof name, "outcry %s", command->name);
    argv[0] = name;
    struct argp argp = {options, parse, command->arguments, doc, NULL, NULL, NULL};
    argp_err_exit_status = 64;
    if (argp_parse(&argp, argc, argv, ARGP_NO_HELP, NULL, &state)) return 64;
    oc_progress_set_quiet(cli.quiet);
    cli.result = json_object();
    oc_status status = cli.result ? command->run(&cli) : OC_FAIL(OC_EMEMORY, "no memory for the result");
    if (status != OC_OK) {
        fprintf(stderr, "outcry: %s: %s [%d]\n", command->name, oc_status_message(), oc_status_exit_code(status));
        oc_log(OC_LOG_DEBUG, "at %s", oc_status_places());
    }
    /* What was found before a command failed helps too: how many rows differ, how many lines were refused. */
    if (cli.json && cli.result && (status == OC_OK || json_object_size(cli.result) > 0)) {
        char *line = oc_json_line(cli.result);
        if ((!line || printf("%s\n", line) < 0) && status == OC_OK) status = OC_EFAILED;
        free(line);
    }
    if (fflush(stdout) != 0 && status == OC_OK) {
        fprintf(stderr, "outcry: %s: stdout: %s\n", command->name, strerror(errno));
        status = OC_EFAILED;
    }
    json_decref(cli.result);
    free(doc);
    for (size_t i = 0; i < OC_CLI_OPTIONS_MAX; i++) free(helps[i]);
    return oc_status_exit_code(status);
}

static void usage(FILE *out)
{
    fprintf(out, "Usage: outcry COMMAND [OPTION...]\n\n"
                 "Trains LSTM-attention models on market data, and says honestly what they are worth.\n\nCommands:\n");
    for (size_t i = 0; i < oc_command_count; i++)
        fprintf(out, "  %-10s %s\n", oc_commands[i]->name, oc_commands[i]->summary);
    fprintf(out,
            "\n`outcry COMMAND --help` tells the rest. Exit codes: 0 done, 1 failed, 64 usage, 65 bad input data,\n"
            "75 try again later, 78 bad configuration.\n");
}

int main(int argc, char **argv)
{
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over the limit is a failed write with a message, as on a full disk */
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        usage(stdout);
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("outcry %s\n", OC_VERSION);
        return 0;
    }
    for (size_t i = 0; argc >= 2 && i < oc_command_count; i++) {
        if (strcmp(argv[1], oc_commands[i]->name) == 0) return command_run(oc_commands[i], argc - 1, argv + 1);
    }
    if (argc >= 2) fprintf(stderr, "outcry: there is no command \"%s\"\n\n", argv[1]);
    usage(stderr);
    return 64;
}
