/* cmd_models.c - outcry models: looks into the model repository, and says which version is to be live. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/ensemble.h"
#include "serve/models.h"
#include "serve/models_server.h"
#include "serve/models_state.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"repository", "FOLDER", "models", false, "the repository: NAME/VERSION/bundle.json"},
    {"server", "SOCKET", NULL, false,
     "serve.socket of a running server: what it says too; promote and rollback wait for it"},
    {"shadow", NULL, NULL, false, "promote: beside the live version, compared with it, answers nobody"},
    {"canary", "SHARE", NULL, false, "promote: beside the live version, answers this share of the symbols (0 ... 1)"},
    {"timeout", "S", "60", false, "seconds to wait for the server"},
    {NULL, NULL, NULL, false, NULL},
};

typedef struct action {
    const char *name, *takes;
    size_t arguments_min, arguments_max;
    oc_status (*run)(oc_cli *cli);
} action;

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}

static oc_status result_set(oc_cli *cli, const char *key, json_t *value)
{
    return json_object_set_new(cli->result, key, value) == 0 ? OC_OK : OC_FAIL(OC_EMEMORY, "no memory for the result");
}

static const char *name_of(const oc_cli *cli)
{
    return cli->argument_count > 1 ? cli->arguments[1] : NULL;
}

static void json_say(const oc_cli *cli, const json_t *value)
{
    char *all = json_dumps(value, JSON_INDENT(2));
    if (all) oc_cli_say(cli, "%s\n", all);
    free(all);
}

/* The bundles, and with --server what it says. */
static oc_status look(oc_cli *cli, bool all, size_t *bad)
{
    json_t *models, *row, *server;
    size_t i;
    OC_TRY(oc_models_list(oc_cli_text(cli, "repository"), name_of(cli), &models, bad));
    json_array_foreach(models, i, row)
    {
        const bool good = json_is_true(json_object_get(row, "good"));
        oc_cli_say(cli, "%s/%s  %s  %s\n", text_of(row, "model"), text_of(row, "version"), text_of(row, "role"),
                   good ? text_of(row, "created") : text_of(row, "error"));
        if (all) json_say(cli, row);
    }
    OC_TRY(result_set(cli, "models", models));
    if (!oc_cli_given(cli, "server")) return OC_OK;
    OC_TRY(oc_models_server_read(oc_cli_text(cli, "server"), &server));
    oc_cli_say(cli, "the server's:\n");
    json_say(cli, server);
    return result_set(cli, "server", server);
}

static oc_status list(oc_cli *cli)
{
    size_t bad = 0;
    return look(cli, false, &bad);
}

static oc_status show(oc_cli *cli)
{
    size_t bad = 0;
    return look(cli, true, &bad);
}

static oc_status verify(oc_cli *cli)
{
    static const char *const held[] = {"live", "other"};
    size_t bad = 0;
    OC_TRY(look(cli, false, &bad));
    if (bad > 0)
        return OC_FAIL(OC_EDATA, "%s: %zu of %zu models cannot be used", oc_cli_text(cli, "repository"), bad,
                       json_array_size(json_object_get(cli->result, "models")));
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_object_get(json_object_get(cli->result, "server"), held[i]);
        if (json_is_true(json_object_get(v, "changed_on_disk")))
            return OC_FAIL(OC_EDATA, "%s: changed on disk since the server loaded it", text_of(v, "folder"));
    }
    return OC_OK;
}

/* Before anything is written: a wrong one shall not be told behind the deed. */
static oc_status timeout_read(const oc_cli *cli, double *timeout_s)
{
    return oc_cli_real(cli, "timeout", 0, 86400, timeout_s);
}

/* Waits for the server; where it refuses, the state is again what it was: the next start shall not stumble over it. */
static oc_status server_await(oc_cli *cli, const char *name, const char *version, bool candidate,
                              const oc_models_state *before)
{
    const char *repository = oc_cli_text(cli, "repository");
    double timeout_s;
    json_t *server;
    OC_TRY(timeout_read(cli, &timeout_s));
    const oc_status status = oc_models_server_await(oc_cli_text(cli, "server"), repository, name, version, candidate,
                                                    (int64_t)(timeout_s * 1e9), &server);
    if (server) OC_TRY(result_set(cli, "server", server));
    if (status == OC_OK) oc_cli_say(cli, "%s: it is\n", name);
    if (status != OC_EDATA || !before->live[0]) return status;
    const char *reason = oc_status_message();
    char kept[512];
    snprintf(kept, sizeof kept, "%s", reason);
    OC_TRY(oc_models_state_write(repository, name, before));
    return OC_FAIL(OC_EDATA, "%s; state.json is what it was", kept);
}

static oc_status done(oc_cli *cli, const char *name, const oc_models_state *state, const oc_models_state *before)
{
    const bool candidate = state->candidate[0];
    const char *version = candidate ? state->candidate : state->live;
    json_t *models;
    size_t bad;
    OC_TRY(oc_models_list(oc_cli_text(cli, "repository"), name, &models, &bad));
    OC_TRY(result_set(cli, "models", models));
    OC_TRY(result_set(cli, "state", oc_models_state_json(state)));
    oc_cli_say(cli, "%s: version %s is to be %s\n", name, version, candidate ? "beside the live one" : "live");
    return oc_cli_given(cli, "server") ? server_await(cli, name, version, candidate, before) : OC_OK;
}

static oc_status promote(oc_cli *cli)
{
    const char *repository = oc_cli_text(cli, "repository"), *wanted = name_of(cli);
    oc_models_state state, before;
    char name[64];
    double canary = 0, timeout_s;
    OC_TRY(timeout_read(cli, &timeout_s));
    snprintf(name, sizeof name, "%.*s", (int)strcspn(wanted, "/"), wanted);
    OC_TRY(oc_models_state_read(repository, name, &before));
    if (oc_cli_given(cli, "canary")) OC_TRY(oc_cli_real(cli, "canary", 0, 1, &canary));
    if (oc_cli_given(cli, "canary") || oc_cli_flag(cli, "shadow"))
        OC_TRY(oc_models_candidate(repository, wanted, canary, &state));
    else
        OC_TRY(oc_models_promote(repository, wanted, &state));
    return done(cli, name, &state, &before);
}

static oc_status rollback(oc_cli *cli)
{
    oc_models_state state, before;
    double timeout_s;
    OC_TRY(timeout_read(cli, &timeout_s));
    OC_TRY(oc_models_state_read(oc_cli_text(cli, "repository"), name_of(cli), &before));
    OC_TRY(oc_models_rollback(oc_cli_text(cli, "repository"), name_of(cli), &state));
    return done(cli, name_of(cli), &state, &before);
}

/* NAME/VERSION MEMBER=WEIGHT... -> ensemble.json */
static oc_status ensemble(oc_cli *cli)
{
    char folder[OC_PATH_MAX], name[64], members[OC_ENSEMBLE_MAX][32];
    const char *wanted = name_of(cli), *slash = strchr(wanted, '/'), *texts[OC_ENSEMBLE_MAX];
    double weights[OC_ENSEMBLE_MAX];
    size_t bad;
    json_t *models;
    const int count = (int)cli->argument_count - 2;
    if (!slash) return OC_FAIL(OC_EUSAGE, "\"%.60s\" is not NAME/VERSION", wanted);
    snprintf(name, sizeof name, "%.*s", (int)(slash - wanted), wanted);
    for (int i = 0; i < count; i++) {
        const char *text = cli->arguments[2 + i], *equal = strchr(text, '=');
        char *end = NULL;
        weights[i] = equal ? strtod(equal + 1, &end) : 0;
        if (!equal || end == equal + 1 || *end || equal - text >= 32)
            return OC_FAIL(OC_EUSAGE, "\"%.60s\" is not VERSION=WEIGHT", text);
        snprintf(members[i], sizeof members[i], "%.*s", (int)(equal - text), text);
        texts[i] = members[i];
    }
    OC_TRY(oc_path_join(folder, sizeof folder, oc_cli_text(cli, "repository"), wanted));
    OC_TRY(oc_ensemble_save(folder, name, slash + 1, texts, weights, count));
    OC_TRY(oc_models_list(oc_cli_text(cli, "repository"), wanted, &models, &bad));
    OC_TRY(result_set(cli, "models", models));
    oc_cli_say(cli, "%s: %d members\n", wanted, count);
    return OC_OK;
}

static const action actions[] = {
    {"ensemble", "NAME/VERSION and 2 to 8 times VERSION=WEIGHT", 4, 2 + OC_ENSEMBLE_MAX, ensemble},
    {"list", "no name", 1, 1, list},
    {"show", "one name, as NAME or NAME/VERSION", 2, 2, show},
    {"promote", "NAME/VERSION", 2, 2, promote},
    {"rollback", "one NAME", 2, 2, rollback},
    {"verify", "one name, as NAME or NAME/VERSION, or none", 1, 2, verify},
};

static oc_status run(oc_cli *cli)
{
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        const action *a = &actions[i];
        if (strcmp(cli->arguments[0], a->name) != 0) continue;
        if (cli->argument_count >= a->arguments_min && cli->argument_count <= a->arguments_max) return a->run(cli);
        return OC_FAIL(OC_EUSAGE, "models %s takes %s", a->name, a->takes);
    }
    return OC_FAIL(OC_EUSAGE, "models %.40s: not list, show, promote, rollback, verify or ensemble", cli->arguments[0]);
}

const oc_command oc_command_models = {
    .name = "models",
    .arguments = "list|show|promote|rollback|verify|ensemble [NAME[/VERSION]] [VERSION=WEIGHT...]",
    .arguments_min = 1,
    .arguments_max = 2 + OC_ENSEMBLE_MAX,
    .summary = "Lists and verifies the bundles of a model repository, and says which version is live",
    .description =
        "Reads the folder NAME/VERSION/{bundle.json, weights.safetensors}. Every bundle is loaded, which "
        "checks the hash of\n"
        "each byte. verify exits with 65 where one is damaged or lies in a folder of another name.\n"
        "promote NAME/VERSION writes NAME/state.json, which a server with serve.repository follows: it loads the\n"
        "version, fills its windows from the rows of its sessions, and goes over session by session. --shadow\n"
        "and --canary leave the live version live and run the other beside it; show --server tells how they\n"
        "differ. rollback NAME withdraws what runs beside, or else makes the version before live again.\n"
        "Example: outcry models promote gbp/7 --repository models --server /tmp/outcry.sock",
    .options = options,
    .run = run,
};
