/* secrets.c - the file is opened once, and what is asked of it is asked of the descriptor: nobody swaps it between the
 * look and the reading. */
#include "serve/http/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that systemd (LoadCredential=) or a pod's Secret puts into $CREDENTIALS_DIRECTORY is root's, and readable to
 * this user by an access list or a group, which its mode shows as the group's: 0440. */
static bool credential_private(const char *path, const struct stat *found)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    const size_t n = folder ? strlen(folder) : 0;
    return n > 0 && strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/') &&
           (found->st_mode & 0337) == 0 && (found->st_uid == 0 || found->st_uid == geteuid());
}

static bool owner_private(const struct stat *found)
{
    return (found->st_mode & 0177) == 0 && found->st_uid == geteuid();
}

/* All of the file, NUL behind it. `private`: nobody but its owner may read it. */
static OC_MUST file_read(const char *key, const char *path, bool private, char *out, size_t cap, size_t *bytes)
{
    struct stat found;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return OC_FAIL(OC_ECONFIG, "%s: %s: %s", key, path, strerror(errno));
    oc_status status = OC_OK;
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode))
        status = OC_FAIL(OC_ECONFIG, "%s: %s is not a file", key, path);
    else if (private && !owner_private(&found) && !credential_private(path, &found))
        status = OC_FAIL(OC_ECONFIG, "%s: %s must be this user's, with mode 0600 or 0400 (chmod 600)", key, path);
    *bytes = 0;
    for (ssize_t n = 1; status == OC_OK && n > 0 && *bytes < cap; *bytes += (size_t)n) {
        n = read(fd, out + *bytes, cap - *bytes);
        if (n < 0) status = OC_FAIL(OC_ECONFIG, "%s: %s: %s", key, path, strerror(errno));
        if (n < 0) break;
    }
    close(fd);
    if (status == OC_OK && *bytes == cap)
        status = OC_FAIL(OC_ECONFIG, "%s: %s is larger than %zu bytes", key, path, cap - 1);
    if (status == OC_OK) out[*bytes] = 0;
    return status;
}

static OC_MUST token_read(const char *key, const char *path, char token[OC_SECRET_TOKEN])
{
    char text[OC_SECRET_TOKEN + 2];
    size_t bytes = 0;
    if (!path || !*path) return OC_OK;
    oc_status status = file_read(key, path, true, text, sizeof text, &bytes);
    if (status == OC_OK && bytes > 0 && text[bytes - 1] == '\n') text[--bytes] = 0;
    bool good = bytes >= OC_SECRET_TOKEN_MIN && bytes < OC_SECRET_TOKEN;
    for (size_t i = 0; i < bytes; i++) good &= text[i] > ' ' && text[i] <= '~';
    if (status == OC_OK && !good)
        status = OC_FAIL(OC_ECONFIG, "%s: %s does not hold one line of %d to %d printable characters", key, path,
                         OC_SECRET_TOKEN_MIN, OC_SECRET_TOKEN - 1);
    if (status == OC_OK) memcpy(token, text, bytes);
    explicit_bzero(text, sizeof text);
    return status;
}

static OC_MUST secrets_fill(oc_secrets *s, const oc_secrets_config *c)
{
    size_t bytes;
    const bool cert = c->tls_cert && *c->tls_cert, key = c->tls_key && *c->tls_key;
    OC_TRY(token_read("serve.token_file", c->token_file, s->token));
    OC_TRY(token_read("serve.control_token_file", c->control_token_file, s->control));
    if (s->token[0] && memcmp(s->token, s->control, sizeof s->token) == 0)
        return OC_FAIL(OC_ECONFIG, "serve.control_token_file holds the token of serve.token_file: they must differ");
    if (cert != key) return OC_FAIL(OC_ECONFIG, "serve.tls_cert and serve.tls_key: both are needed, or neither");
    if (!cert) return OC_OK;
    OC_TRY(file_read("serve.tls_cert", c->tls_cert, false, s->certificate, sizeof s->certificate, &bytes));
    OC_TRY(file_read("serve.tls_key", c->tls_key, true, s->key, sizeof s->key, &bytes));
    return OC_OK;
}

oc_status oc_secrets_open(oc_secrets **out, const oc_secrets_config *config)
{
    *out = NULL;
    void *at = mmap(NULL, sizeof **out, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return OC_FAIL(OC_EMEMORY, "serve: memory for tokens: %s", strerror(errno));
    (void)mlock(at, sizeof **out); /* where the limit allows it */
    (void)madvise(at, sizeof **out, MADV_DONTDUMP);
    const oc_status status = secrets_fill(at, config);
    if (status != OC_OK) {
        oc_secrets_close(at);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = at;
    return OC_OK;
}

void oc_secrets_close(oc_secrets *s)
{
    if (!s) return;
    explicit_bzero(s, sizeof *s);
    munmap(s, sizeof *s);
}

bool oc_secrets_match(const char token[OC_SECRET_TOKEN], const char *header)
{
    static const char scheme[] = "Bearer ";
    char given[OC_SECRET_TOKEN] = {0};
    unsigned char different = 0;
    if (!token[0]) return false;
    const bool schemed = header && strncasecmp(header, scheme, sizeof scheme - 1) == 0;
    const char *text = schemed ? header + sizeof scheme - 1 : "";
    const size_t bytes = strnlen(text, sizeof given);
    memcpy(given, text, bytes < sizeof given ? bytes : sizeof given - 1);
    for (size_t i = 0; i < sizeof given; i++) different |= (unsigned char)(given[i] ^ token[i]);
    explicit_bzero(given, sizeof given);
    return different == 0 && bytes < sizeof given;
}
