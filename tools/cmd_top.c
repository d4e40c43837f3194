/* cmd_top.c - outcry top: the figures of a running server in a terminal. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/http/secrets.h"
#include "serve/http/top.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"http", "HOST:PORT", "127.0.0.1:8000", false, "serve.http of the server, a loopback address"},
    {"token-file", "FILE", NULL, false, "the server's serve.token_file"},
    {"interval", "S", "1", false, "seconds between two looks (0.1 to 60)"},
    {"once", NULL, NULL, false, "one look, at what has been since the server began, and no more"},
    {NULL, NULL, NULL, false, NULL},
};

static uint32_t stopped; /* by __atomic */

static void stop(void)
{
    __atomic_store_n(&stopped, 1u, __ATOMIC_RELAXED);
}

static oc_top_view view_of(bool terminal)
{
    struct winsize size = {0};
    oc_top_view view = {.columns = 160, .lines = 1000};
    if (!terminal || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row < 2) return view;
    return (oc_top_view){.columns = size.ws_col, .lines = size.ws_row - 1, .colour = true};
}

static oc_status show(const oc_cli *cli, const json_t *now, const json_t *before, bool terminal)
{
    oc_text text = {0};
    const oc_top_view view = view_of(terminal);
    if (terminal) oc_text_add(&text, "\033[H\033[J");
    oc_top_print(&text, now, before, &view);
    const oc_status status = oc_text_finish(&text, "the screen");
    if (status == OC_OK) oc_cli_say(cli, "%s", text.data);
    fflush(stdout);
    oc_text_free(&text);
    return status;
}

static oc_status result_set(oc_cli *cli, json_t *now)
{
    json_t *figures = oc_top_figures(now, NULL);
    if (!figures || json_object_update_new(cli->result, figures) != 0 ||
        json_object_set(cli->result, "status", now) != 0)
        return OC_FAIL(OC_EMEMORY, "no memory for the result");
    return OC_OK;
}

static oc_status watch(const oc_cli *cli, const char *token, double interval_s)
{
    const bool terminal = isatty(STDOUT_FILENO);
    json_t *before = NULL, *now;
    oc_status status = OC_OK;
    oc_cli_on_stop(stop);
    while (status == OC_OK && !__atomic_load_n(&stopped, __ATOMIC_RELAXED)) {
        status = oc_top_read(oc_cli_text(cli, "http"), token, 5 * OC_SECOND_NS, &now);
        if (status != OC_OK) break;
        status = show(cli, now, before, terminal);
        json_decref(before);
        before = now;
        usleep((useconds_t)(interval_s * 1e6));
    }
    json_decref(before);
    return status;
}

static oc_status run_with(oc_cli *cli, const char *token)
{
    json_t *now;
    double interval_s;
    OC_TRY(oc_cli_real(cli, "interval", 0.1, 60, &interval_s));
    if (!oc_cli_flag(cli, "once")) return watch(cli, token, interval_s);
    OC_TRY(oc_top_read(oc_cli_text(cli, "http"), token, 5 * OC_SECOND_NS, &now));
    oc_status status = show(cli, now, NULL, false);
    if (status == OC_OK) status = result_set(cli, now);
    json_decref(now);
    return status;
}

static oc_status run(oc_cli *cli)
{
    oc_secrets *secrets;
    const oc_secrets_config files = {.token_file = oc_cli_text(cli, "token-file")};
    OC_TRY(oc_secrets_open(&secrets, &files));
    const oc_status status = run_with(cli, secrets->token[0] ? secrets->token : NULL);
    oc_secrets_close(secrets);
    return status;
}

const oc_command oc_command_top = {
    .name = "top",
    .summary = "Shows what a running server does, in a terminal",
    .description = "Asks /outcry/status of a server on this machine once a second: answers a second, latency "
                   "percentiles by stage,\n"
                   "refusals, drift of inputs, and of each instrument its last probabilities. Ends with Ctrl-C, or "
                   "when the server\n"
                   "does. The dashboard at the server's address shows the same.\n"
                   "Example: outcry top --http 127.0.0.1:8000",
    .options = options,
    .run = run,
};
