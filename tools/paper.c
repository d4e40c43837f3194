/* paper.c - the results of a paper session, for people and as JSON. */
#include "tools/paper.h"

#include "evaluate/report.h"

static oc_status say(const oc_cli *cli, const json_t *results)
{
    oc_text text = {0};
    oc_status status = oc_report_backtest_plain(results, &text);
    if (status == OC_OK) oc_cli_say(cli, "%s", text.data);
    oc_text_free(&text);
    return status;
}

oc_status oc_paper_give(oc_cli *cli, json_t *results)
{
    oc_status status = say(cli, results);
    (void)json_object_del(results, "curve"); /* results.json has them */
    (void)json_object_del(results, "settings");
    int failed = json_object_update(cli->result, results);
    json_decref(results);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : status;
}
