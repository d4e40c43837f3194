/* zone.c - see zone.h. An offset o fits local time L where the zone's offset at L - o is o; the candidates are the
 * offsets a day before and a day after, since no zone changes twice within two days. */
#include "market/zone.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { BUCKET_S = 900, DAY_S = 86400 };

static int64_t offset_at(int64_t utc_s)
{
    time_t at = (time_t)utc_s;
    struct tm local;
    return localtime_r(&at, &local) ? (int64_t)local.tm_gmtoff : 0;
}

static void offsets_find(oc_zone *z, int64_t local_s)
{
    char old[256];
    const char *before = getenv("TZ");
    bool had = before && strlen(before) < sizeof old;
    if (had) memcpy(old, before, strlen(before) + 1);
    setenv("TZ", z->name, 1);
    tzset();
    int64_t candidates[2] = {offset_at(local_s - DAY_S), offset_at(local_s + DAY_S)};
    z->count = 0;
    for (int i = 0; i < 2; i++) {
        if (i == 1 && candidates[1] == candidates[0]) break;
        if (offset_at(local_s - candidates[i]) == candidates[i]) z->offset_s[z->count++] = candidates[i];
    }
    if (had) setenv("TZ", old, 1);
    else unsetenv("TZ");
    tzset();
    if (z->count == 2 && z->offset_s[0] < z->offset_s[1]) {     /* the larger offset is the earlier instant */
        int64_t swap = z->offset_s[0];
        z->offset_s[0] = z->offset_s[1];
        z->offset_s[1] = swap;
    }
}

/* "+02:00", "-0530". */
static bool fixed_parse(const char *name, int64_t *offset_s)
{
    int digit[4], count = 0;
    if (name[0] != '+' && name[0] != '-') return false;
    for (const char *c = name + 1; *c; c++) {
        if (*c == ':' && c == name + 3) continue;
        if (*c < '0' || *c > '9' || count == 4) return false;
        digit[count++] = *c - '0';
    }
    if (count != 4) return false;
    int64_t minutes = (digit[0] * 10 + digit[1]) * 60 + digit[2] * 10 + digit[3];
    if (minutes > 15 * 60) return false;
    *offset_s = (name[0] == '-' ? -60 : 60) * minutes;
    return true;
}

/* glibc takes an unknown name for UTC without a word, so the file itself is looked at. */
static bool is_zone_file(const char *path)
{
    char magic[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool good = read(fd, magic, sizeof magic) == (ssize_t)sizeof magic && memcmp(magic, "TZif", sizeof magic) == 0;
    close(fd);
    return good;
}

oc_status oc_zone_open(oc_zone *z, const char *name)
{
    char path[512];
    const char *folder = getenv("TZDIR");
    size_t length = strlen(name);
    *z = (oc_zone){.bucket = INT64_MIN};
    if (length == 0 || length >= sizeof z->name) return OC_FAIL(OC_EUSAGE, "\"%.80s\" is not a time zone", name);
    memcpy(z->name, name, length + 1);
    z->count = 1;
    z->fixed = strcmp(name, "UTC") == 0 || fixed_parse(name, &z->offset_s[0]);
    if (z->fixed) return OC_OK;
    if (!folder) folder = "/usr/share/zoneinfo";
    int written = snprintf(path, sizeof path, "%s/%s", folder, name);
    bool sound = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/.") == length;
    if (!sound || name[0] == '/' || written < 0 || (size_t)written >= sizeof path || strstr(name, "..") ||
        !is_zone_file(path))
        return OC_FAIL(OC_EUSAGE,
                       "the time zone \"%s\" is not known to this machine (looked in %s; Debian: install tzdata). "
                       "Give an IANA name such as Europe/Berlin, UTC, or an offset such as +02:00",
                       name, folder);
    return OC_OK;
}

int oc_zone_utc(oc_zone *z, int64_t local_ns, int64_t utc_ns[2])
{
    int64_t local_s = local_ns / OC_SECOND_NS - (local_ns % OC_SECOND_NS < 0);
    int64_t bucket = local_s / BUCKET_S - (local_s % BUCKET_S < 0);
    if (!z->fixed && bucket != z->bucket) {
        offsets_find(z, local_s);
        z->bucket = bucket;
    }
    for (int i = 0; i < z->count; i++) utc_ns[i] = local_ns - z->offset_s[i] * OC_SECOND_NS;
    return z->count;
}
