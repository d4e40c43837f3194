/* paper.h - what backtest and trade say of their results. */
#ifndef OC_TOOLS_PAPER_H
#define OC_TOOLS_PAPER_H

#include "tools/cli.h"

OC_MUST oc_paper_give(oc_cli *cli, json_t *results); /* takes the reference */

#endif
