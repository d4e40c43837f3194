/* test_server.c - the server in this process, clients through the real socket and rings. What it would catch: an answer
 * that depends on what it was batched with or on how the window came, a refusal that is not one, a client that harms
 * others, memory taken while serving. Oracle of answers: oc_model_predict on the same rows, compared bit by bit;
 * weights are enlarged. */
#include "base/cmocka_all.h"
#include <stdio.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "serve/client/client.h"
#include "serve/client/ring.h"
#include "serve/served.h"

static const oc_model_shape shape = {OC_TRUNK_LSTM, 12, 5, 2, 16, 2, 2};
enum { T = 12, F = 5, OUTPUTS = 6, SESSIONS = 20, CLIENTS = 4, ROWS = 400 };
#define WAIT (20 * OC_SECOND_NS)

typedef struct fixture {
    served at;
    oc_bundle *bundle;
    oc_model *model;
} fixture;

static oc_server_config config_of(const fixture *f)
{
    oc_server_config config = served_config(&f->at);
    config.sessions_max = SESSIONS;
    config.spin_ns = 20000;
    return config;
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    if (!f) return -1;
    served_make(&f->at);
    f->bundle = served_bundle(&f->at, &shape);
    assert_int_equal(oc_model_open(&f->model, f->bundle, &cpu, 3), OC_OK);
    const oc_server_config config = config_of(f);
    served_start(&f->at, &config);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    served_remove(&f->at);
    oc_model_close(f->model);
    oc_bundle_close(f->bundle);
    free(f);
    return 0;
}

static oc_client *client_open(const fixture *f)
{
    oc_client *c = NULL;
    for (int i = 0; i < 400 && !c; i++) /* a slot of a client that left is free a little later */
        if (oc_client_open(&c, f->at.address, WAIT) != OC_OK) usleep(50000);
    if (!c) fail_msg("%s", oc_status_message());
    return c;
}

static uint32_t session_open(oc_client *c, const char *symbol)
{
    const oc_client_model *m = oc_client_describe(c);
    uint32_t id = 0;
    if (oc_client_session_open(c, m->name, symbol, m->schema_low, m->schema_high, OC_SECOND_NS, WAIT, &id) != OC_OK)
        fail_msg("%s", oc_status_message());
    return id;
}

static oc_wire_reply reply_of(oc_client *c)
{
    oc_wire_reply reply;
    const int64_t end = oc_clock_monotonic_ns() + WAIT;
    while (oc_client_poll(c, &reply, 1) != 1) {
        if (oc_clock_monotonic_ns() > end) fail_msg("no reply");
        oc_client_wait(c, 0, WAIT);
    }
    return reply;
}

static void row_make(float *row, uint64_t session, uint64_t number)
{
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, session, number);
    for (int i = 0; i < F; i++) row[i] = (float)(4 * oc_random_uniform(key, (uint64_t)i) - 2);
}

/* The answer to the window that ends with row `last` of the session. */
static void oracle(const fixture *f, uint64_t session, uint64_t last, float *probabilities)
{
    float window[T * F];
    for (uint64_t i = 0; i < T; i++) row_make(window + i * F, session, last + 1 - T + i);
    assert_int_equal(oc_model_predict(f->model, window, 1, probabilities, OUTPUTS), OC_OK);
}

typedef struct feed {
    uint32_t id;
    uint64_t next, run;
    size_t held;
} feed;

static void reply_check(const fixture *f, const oc_wire_reply *r, size_t *answered, size_t *held)
{
    float want[OUTPUTS];
    const uint64_t session = r->sequence >> 32, row = (r->sequence >> 8) & 0xffffff,
                   run = r->sequence & 255; /* run: rows since a gap, cut at 255 */
    assert_int_equal(r->input_ns, (int64_t)(r->sequence ^ 77));
    assert_true(r->queue_ns >= 0 && r->service_ns >= 0 && r->horizons == 2 && r->model_version == 1);
    if (r->kind == OC_REQUEST_PUSH && run < T) {
        assert_int_equal(r->state, run == 0 ? OC_REPLY_HOLD_GAP : OC_REPLY_HOLD_SHORT);
        assert_true(r->probabilities[0][2] == 1 && r->probabilities[1][2] == 1 && r->probabilities[0][0] == 0);
        (*held)++;
        return;
    }
    assert_int_equal(r->state, OC_REPLY_OK);
    oracle(f, session, row, want);
    assert_memory_equal(want, r->probabilities, sizeof want);
    (*answered)++;
}

static uint64_t sequence_of(uint64_t session, uint64_t row, uint64_t run)
{
    return session << 32 | row << 8 | (run < 255 ? run : 255);
}

/* One random request of a session: its next row, sometimes a gap before it; or the whole window that ends with its last
 * one. */
static bool request_send(oc_client *c, feed *f, uint64_t session, uint32_t key, uint64_t draw)
{
    float rows[T * F];
    const uint64_t chance = oc_random_philox(key, draw) % 100;
    const bool window = chance < 25 && f->next >= T;
    const uint64_t run = window ? 255 : chance < 27 ? 0 : f->run + 1, row = window ? f->next - 1 : f->next;
    const uint64_t sequence = sequence_of(session, row, run);
    const oc_stamp stamp = {.sequence = sequence, .input_ns = (int64_t)(sequence ^ 77)};
    oc_status status;
    if (window) {
        for (uint64_t i = 0; i < T; i++) row_make(rows + i * F, session, row + 1 - T + i);
        status = oc_client_window(c, session % 2 ? f->id : 0, stamp, rows, T);
    } else {
        row_make(rows, session, row);
        status = oc_client_push(c, f->id, stamp, rows, (uint32_t)run);
    }
    if (status == OC_EAGAIN) return false; /* the ring is full */
    assert_int_equal(status, OC_OK);
    if (window) return true;
    f->next++;
    f->run = run;
    return true;
}

static void interleaved(void **state)
{
    fixture *f = *state;
    oc_client *clients[CLIENTS];
    feed feeds[SESSIONS] = {{0}};
    oc_wire_reply replies[32];
    size_t sent = 0, got = 0, answered = 0, held = 0;
    const uint32_t key = oc_random_key(13, OC_RANDOM_TEST, 0, 0);
    for (int i = 0; i < CLIENTS; i++) clients[i] = client_open(f);
    for (int i = 0; i < SESSIONS; i++) feeds[i].id = session_open(clients[i % CLIENTS], "SIM");
    const size_t before = oc_memory_count();
    for (uint64_t draw = 0; sent < SESSIONS * ROWS || got < sent; draw += 2) {
        const uint64_t session = oc_random_philox(key, draw) % SESSIONS;
        if (sent < SESSIONS * ROWS)
            sent += request_send(clients[session % CLIENTS], &feeds[session], session, key, draw + 1);
        if (draw % 16 && sent < SESSIONS * ROWS) continue; /* bursts */
        for (int i = 0; i < CLIENTS; i++) {
            const size_t n = oc_client_poll(clients[i], replies, 32);
            for (size_t k = 0; k < n; k++) reply_check(f, &replies[k], &answered, &held);
            got += n;
        }
    }
    assert_int_equal(oc_memory_count(), before);
    assert_int_equal(answered + held, SESSIONS * ROWS);
    assert_true(answered > SESSIONS * ROWS / 2 && held > 100);
    for (int i = 0; i < CLIENTS; i++) oc_client_close(clients[i]);
}

/* A client that comes again hands in what it kept; its next row is answered as if it had never been away. */
static void reconnect(void **state)
{
    fixture *f = *state;
    float rows[3 * T * F], row[F], want[OUTPUTS];
    for (uint64_t i = 0; i < 3 * T; i++) row_make(rows + i * F, 1, i);
    for (int times = 0; times < 3; times++) {
        oc_client *c = client_open(f);
        const uint32_t id = session_open(c, "SIM");
        assert_int_equal(oc_client_history(c, id, (oc_stamp){.sequence = 7}, rows, 3 * T, 3 * T - 1), OC_EUSAGE);
        assert_int_equal(oc_client_history(c, id, (oc_stamp){.sequence = 7}, rows, 3 * T, 3 * T), OC_OK);
        for (uint64_t i = 3 * T; i < 4 * T; i++) {
            row_make(row, 1, i);
            assert_int_equal(oc_client_push(c, id, (oc_stamp){.sequence = i}, row, (uint32_t)i + 1), OC_OK);
        }
        const oc_wire_reply taken = reply_of(c);
        assert_true(taken.kind == OC_REQUEST_HISTORY && taken.state == OC_REPLY_OK && taken.sequence == 7);
        for (uint64_t i = 3 * T; i < 4 * T; i++) {
            const oc_wire_reply r = reply_of(c);
            oracle(f, 1, i, want);
            assert_true(r.state == OC_REPLY_OK && r.sequence == i);
            assert_memory_equal(want, r.probabilities, sizeof want);
        }
        oc_client_close(c);
    }
}

/* The comparison above finds one wrong bit, and answers differ between rows. */
static void planted(void **state)
{
    fixture *f = *state;
    float a[OUTPUTS], b[OUTPUTS];
    oracle(f, 1, 100, a);
    oracle(f, 1, 101, b);
    assert_memory_not_equal(a, b, sizeof a);
    uint32_t bits;
    memcpy(&bits, &a[3], sizeof bits);
    bits ^= 1;
    memcpy(&b[3], &bits, sizeof bits);
    assert_memory_not_equal(&a[3], &b[3], sizeof(float));
}

static void refusals(void **state)
{
    fixture *f = *state;
    oc_client *c = client_open(f), *other = client_open(f);
    const oc_client_model *m = oc_client_describe(c);
    float window[T * F] = {0};
    const uint32_t id = session_open(c, "A"), foreign = session_open(other, "B");
    uint32_t none;
    const struct {
        uint32_t session;
        uint64_t sequence;
        float first;
        uint32_t run;
        oc_reply_state want;
    } rows[] = {
        {id, 5, 1, 1, OC_REPLY_HOLD_SHORT},      {id, 5, 1, 2, OC_REPLY_REFUSED_ORDER},
        {id, 4, 1, 2, OC_REPLY_REFUSED_ORDER},   {id, 6, HUGE_VALF, 2, OC_REPLY_REFUSED_VALUE},
        {id, 7, NAN, 1, OC_REPLY_REFUSED_VALUE}, {foreign, 8, 1, 1, OC_REPLY_REFUSED_SESSION},
        {0, 8, 1, 1, OC_REPLY_REFUSED_SESSION},  {id + 1, 8, 1, 1, OC_REPLY_REFUSED_SESSION},
        {id, 8, 1, 0, OC_REPLY_HOLD_GAP},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float row[F] = {rows[i].first};
        assert_int_equal(oc_client_push(c, rows[i].session, (oc_stamp){.sequence = rows[i].sequence}, row, rows[i].run),
                         OC_OK);
        const oc_wire_reply r = reply_of(c);
        if (r.state != rows[i].want) fail_msg("row %zu: state %u, not %d", i, r.state, rows[i].want);
        assert_int_equal(r.sequence, rows[i].sequence);
    }
    window[7] = NAN;
    assert_int_equal(oc_client_window(c, 0, (oc_stamp){0}, window, T), OC_OK);
    assert_int_equal(reply_of(c).state, OC_REPLY_REFUSED_VALUE);
    window[7] = 0;
    assert_int_equal(oc_client_window(c, 0, (oc_stamp){.deadline_ns = 1}, window, T), OC_OK);
    const oc_wire_reply stale = reply_of(c); /* HOLD, not the probabilities of a moment that is over */
    assert_true(stale.state == OC_REPLY_LATE && stale.probabilities[0][2] == 1 && stale.probabilities[1][2] == 1);
    assert_int_equal(oc_client_window(c, 0, (oc_stamp){0}, window, T - 1), OC_EUSAGE);
    assert_int_equal(oc_client_session_open(c, "other", "A", m->schema_low, m->schema_high, OC_SECOND_NS, WAIT, &none),
                     OC_EUSAGE);
    assert_int_equal(
        oc_client_session_open(c, m->name, "A", m->schema_low ^ 1, m->schema_high, OC_SECOND_NS, WAIT, &none),
        OC_EUSAGE);
    assert_int_equal(oc_client_session_open(c, m->name, "A", m->schema_low, m->schema_high, 1, WAIT, &none),
                     OC_EAGAIN); /* budget */
    for (int i = 2; i < SESSIONS; i++) (void)session_open(c, "A");
    assert_int_equal(oc_client_session_open(c, m->name, "A", m->schema_low, m->schema_high, OC_SECOND_NS, WAIT, &none),
                     OC_EAGAIN);
    assert_int_equal(oc_client_session_close(c, id), OC_OK);
    assert_int_equal(reply_of(c).state, OC_REPLY_OK);
    assert_int_not_equal(session_open(c, "A"), id); /* an old number is never a new session's */
    oc_client_close(c);
    oc_client_close(other);
}

/* A version that a client names and that does not answer: nothing of the request is taken in. */
static void another_version(void **state)
{
    fixture *f = *state;
    oc_client *c = client_open(f);
    const uint32_t live = oc_client_describe(c)->generation, id = session_open(c, "A");
    const oc_stamp other = {.sequence = 9, .model_version = live + 1}, named = {.sequence = 9, .model_version = live};
    const float window[T * F] = {0};
    assert_int_equal(oc_client_window(c, 0, other, window, T), OC_OK);
    assert_int_equal(reply_of(c).state, OC_REPLY_REFUSED_VERSION);
    assert_int_equal(oc_client_window(c, 0, named, window, T), OC_OK);
    assert_int_equal(reply_of(c).state, OC_REPLY_OK);
    assert_int_equal(oc_client_history(c, id, other, window, 1, 1), OC_OK);
    assert_int_equal(reply_of(c).state, OC_REPLY_REFUSED_VERSION);
    assert_int_equal(oc_client_push(c, id, other, window, 1), OC_OK);
    const oc_wire_reply refused = reply_of(c);
    assert_true(refused.state == OC_REPLY_REFUSED_VERSION && refused.model_version == live && refused.sequence == 9);
    assert_int_equal(oc_client_push(c, id, named, window, 1), OC_OK);
    assert_int_equal(reply_of(c).state, OC_REPLY_HOLD_SHORT);
    oc_client_close(c);
}

/* ---- peers that do not play by the rules: the region in their own hands
 * ---------------------------------------------- */
typedef struct raw {
    int socket, fds[2];
    unsigned char *region;
    oc_wire_hello hello;
} raw;

static bool raw_open(raw *r, const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = {&r->hello, sizeof r->hello};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    r->socket = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    r->region = NULL;
    if (connect(r->socket, (struct sockaddr *)&name, sizeof name) != 0) return false;
    if (recvmsg(r->socket, &message, 0) != (ssize_t)sizeof r->hello || r->hello.state != OC_HELLO_WELCOME) return false;
    memcpy(r->fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof r->fds);
    r->region = mmap(NULL, r->hello.region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fds[0], 0);
    return r->region != MAP_FAILED;
}

static void raw_close(raw *r)
{
    if (r->region) {
        munmap(r->region, r->hello.region_bytes);
        close(r->fds[0]);
        close(r->fds[1]);
    }
    close(r->socket);
}

static void still_answers(const fixture *f, oc_client *c)
{
    float window[T * F], want[OUTPUTS];
    for (uint64_t i = 0; i < T; i++) row_make(window + i * F, 3, i);
    oracle(f, 3, T - 1, want);
    assert_int_equal(oc_client_window(c, 0, (oc_stamp){.sequence = 9}, window, T), OC_OK);
    const oc_wire_reply r = reply_of(c);
    assert_int_equal(r.state, OC_REPLY_OK);
    assert_memory_equal(want, r.probabilities, sizeof want);
}

static void hostile(void **state)
{
    fixture *f = *state;
    oc_client *good = client_open(f);
    for (uint64_t round = 0; round < 60; round++) {
        raw r;
        const uint32_t key = oc_random_key(17, OC_RANDOM_TEST, round, 0);
        for (int tries = 0; !raw_open(&r, f->at.socket); tries++) {
            raw_close(&r);
            if (tries > 1000) fail_msg("round %llu: no way in", (unsigned long long)round);
            usleep(20000);
        }
        assert_int_not_equal(ftruncate(r.fds[0], 64), 0); /* sealed */
        oc_wire_control *control = (oc_wire_control *)(void *)r.region;
        for (uint64_t i = OC_WIRE_REGION_OFFSET; i < r.hello.region_bytes; i += 4) {
            const uint64_t draw = oc_random_philox(key, i);
            const uint32_t word = draw % 3 == 0   ? (uint32_t)(draw >> 40) % 8
                                  : draw % 3 == 1 ? 64u * ((uint32_t)(draw >> 50) % 8)
                                                  : (uint32_t)(draw >> 32);
            memcpy(r.region + i, &word, sizeof word);
        }
        control->replies.head = round % 4 == 3 ? oc_random_philox(key, 1) : 0;
        __atomic_store_n(&control->requests.tail,
                         round % 2 ? 64 * (oc_random_philox(key, 2) % 65) : oc_random_philox(key, 3), __ATOMIC_RELEASE);
        still_answers(f, good);
        for (int i = 0; i < 3; i++) usleep(1000);
        raw_close(&r);
    }
    still_answers(f, good);
    oc_client_close(good);
    oc_text text = {0};
    oc_server_metrics(f->at.server, &text);
    const char *broken = strstr(text.data, "\noutcry_broken_clients_total ");
    assert_non_null(broken);
    assert_true(strtol(broken + strlen("\noutcry_broken_clients_total "), NULL, 10) >= 20);
    oc_text_free(&text);
}

/* A client that never reads loses replies; they are counted, and nobody waits for it. */
static void unread(void **state)
{
    fixture *f = *state;
    oc_client *deaf = client_open(f), *good = client_open(f);
    float window[T * F] = {0};
    size_t sent = 0;
    const int64_t end = oc_clock_monotonic_ns() + 100 * OC_SECOND_NS;
    while (sent < 3000 && oc_clock_monotonic_ns() < end)
        sent += oc_client_window(deaf, 0, (oc_stamp){.sequence = sent}, window, T) == OC_OK;
    assert_int_equal(sent, 3000);
    still_answers(f, good);
    oc_text text = {0};
    oc_server_metrics(f->at.server, &text);
    const char *lost = strstr(text.data, "\noutcry_replies_dropped_total ");
    assert_non_null(lost);
    assert_true(strtol(lost + strlen("\noutcry_replies_dropped_total "), NULL, 10) > 1000);
    oc_text_free(&text);
    oc_client_close(deaf);
    oc_client_close(good);
}

static void wrong_uid(void **state)
{
    fixture *f = *state;
    if (geteuid() != 0) skip();
    assert_int_equal(chmod(f->at.socket, 0666), 0);
    assert_int_equal(chmod(f->at.folder, 0755), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        raw r;
        if (setuid(65534) != 0) _exit(2);
        const bool in = raw_open(&r, f->at.socket);
        _exit(!in && r.hello.state == OC_HELLO_WRONG_UID ? 0 : 1);
    }
    int code = -1;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
}

static int files_open(void)
{
    int n = 0;
    for (int fd = 0; fd < 512; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int rings_mapped(void)
{
    char line[512];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) n += strstr(line, "outcry-rings") != NULL;
    fclose(maps);
    return n;
}

/* Clients that come and go as fast as they can: some before they are told anything, some with a session and a request
 * on its way. Nothing of them is left, and the next one is answered. */
static void storm(void **state)
{
    fixture *f = *state;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    float window[T * F] = {0};
    const int files = files_open(), rings = rings_mapped();
    memcpy(name.sun_path, f->at.socket, strnlen(f->at.socket, sizeof name.sun_path - 1));
    for (int i = 0; i < 60; i++) {
        oc_client *c = client_open(f);
        (void)session_open(c, "STORM");
        assert_int_equal(oc_client_window(c, 0, (oc_stamp){0}, window, T), OC_OK);
        for (int k = 0; k < 20; k++) {
            const int hasty = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            (void)connect(hasty, (struct sockaddr *)&name, sizeof name);
            close(hasty);
        }
        oc_client_close(c);
    }
    for (int i = 0; files_open() != files || rings_mapped() != rings; i++) {
        if (i > 1000) fail_msg("%d files and %d rings, not %d and %d", files_open(), rings_mapped(), files, rings);
        usleep(50000);
    }
    oc_client *c = client_open(f);
    still_answers(f, c);
    oc_client_close(c);
}

static int64_t used_ns(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 ? t.tv_sec * OC_SECOND_NS + t.tv_nsec : 0;
}

/* In another process, as this one has no descriptor left: says when it waits for its hello, then how that went. */
static pid_t client_elsewhere(const fixture *f, int go)
{
    const pid_t pid = fork();
    if (pid != 0) return pid;
    oc_client *c;
    char byte;
    (void)alarm(60); /* where the test fails before it says go */
    if (read(go, &byte, 1) != 1) _exit(9);
    const oc_status status = oc_client_open(&c, f->at.address, 20 * OC_SECOND_NS);
    _exit(status == OC_OK ? 0 : strstr(oc_status_message(), "could not make a ring") ? 3 : 4);
}

static int code_of(pid_t pid)
{
    int code = -1;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

/* Until a client has come for whom there was no descriptor. */
static void accept_failure_await(const fixture *f)
{
    bool found = false;
    for (int i = 0; i < 3000 && !found; i++) {
        oc_text text = {0};
        oc_server_metrics(f->at.server, &text);
        found = strstr(text.data, "\noutcry_accept_failures_total ") &&
                !strstr(text.data, "\noutcry_accept_failures_total 0\n");
        oc_text_free(&text);
        if (!found) usleep(10000);
    }
    assert_true(found);
}

/* No descriptor is left: the client waits and is taken once there is one; the server does not spin meanwhile, and who
 * was there before is answered. One is left: no ring can be made, and the client is told. */
static void no_descriptors(void **state)
{
    enum { HELD = 256 };
    fixture *f = *state;
    oc_client *good = client_open(f);
    int go[2][2], held[HELD], n = 0;
    struct rlimit before, low;
    for (int i = 0; i < 2; i++) assert_int_equal(pipe(go[i]), 0);
    const pid_t first = client_elsewhere(f, go[0][0]), second = client_elsewhere(f, go[1][0]);
    still_answers(f, good); /* then the server has closed its descriptor of that client's memory */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = 200, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (n < HELD && (held[n] = dup(go[0][0])) >= 0) n++;
    assert_int_equal(write(go[0][1], "g", 1), 1);
    accept_failure_await(f);
    const int64_t start = used_ns();
    usleep(400000);
    assert_true(used_ns() - start < 200000000);
    still_answers(f, good);
    close(held[--n]); /* it is accepted with this one */
    assert_int_equal(code_of(first), 3);
    for (int i = 0; i < 2; i++) close(held[--n]);
    assert_int_equal(write(go[1][1], "g", 1), 1);
    assert_int_equal(code_of(second), 0);
    while (n > 0) close(held[--n]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < 4; i++) close(go[i / 2][i % 2]);
    oc_text text = {0};
    oc_server_metrics(f->at.server, &text);
    assert_non_null(strstr(text.data, "outcry_clients_total{hello=\"failed\"} 1\n"));
    oc_text_free(&text);
    oc_client_close(good);
}

/* A second server on a living socket is refused; configurations that cannot be are refused by name. */
static void refused_starts(void **state)
{
    fixture *f = *state;
    oc_server *s;
    oc_server_config c = config_of(f);
    assert_int_equal(oc_server_open(&s, &c), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "in use"));
    c.memory_max_bytes = 1000;
    assert_int_equal(oc_server_open(&s, &c), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "memory_mb"));
    c = config_of(f);
    c.ring_bytes = 5000;
    assert_int_equal(oc_server_open(&s, &c), OC_ECONFIG);
    c = config_of(f);
    c.threads = 0;
    assert_int_equal(oc_server_open(&s, &c), OC_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(interleaved, setup, teardown),
        cmocka_unit_test_setup_teardown(reconnect, setup, teardown),
        cmocka_unit_test_setup_teardown(planted, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(another_version, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile, setup, teardown),
        cmocka_unit_test_setup_teardown(unread, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_uid, setup, teardown),
        cmocka_unit_test_setup_teardown(storm, setup, teardown),
        cmocka_unit_test_setup_teardown(no_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_starts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
