/* assets.h - the files of the dashboard, inside the program: page/ of this folder, and Debian's Chart.js, which the
 * build takes from where libjs-chart.js has put it. */
#ifndef OC_SERVE_HTTP_ASSETS_H
#define OC_SERVE_HTTP_ASSETS_H

#include <stddef.h>

typedef struct oc_asset {
    const char *path, *type; /* of the request; of the answer */
    const char *data, *end;
} oc_asset;
const oc_asset *oc_asset_find(const char *path); /* NULL: none */

#endif
