/* The emulation finds what is planted: each faulty kernel of planted.cu ends its process with the finding that its row
 * names, or, under the address sanitizer, with that one's report or a wrong result; the good kernels beside them do
 * neither, in any of SEEDS orders of threads. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "emulation/planted.cuh"

enum { SEEDS = 8, TEXT_BYTES = 1 << 16 };
#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* The child's exit code, -1 where a signal or a finding ended it; what it said to text. */
static int run_child(const planted_case *c, int seed, char *text)
{
    int ends[2], status;
    size_t used = 0;
    char number[16];
    fflush(stdout);
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGSEGV, SIG_DFL); /* cmocka would go on with its next test, in the child */
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        snprintf(number, sizeof number, "%d", seed);
        (void)setenv("OUTCRY_EMULATION_SEED", number, 1);
        _exit(c->run());
    }
    (void)close(ends[1]);
    for (ssize_t n; used < TEXT_BYTES - 1 && (n = read(ends[0], text + used, TEXT_BYTES - 1 - used)) > 0;)
        used += (size_t)n;
    text[used] = 0;
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) <= PLANTED_NO_ROOM && used == 0) return WEXITSTATUS(status);
    return -1;
}

static void planted(void **state)
{
    static char text[TEXT_BYTES];
    int wrong = 0;
    (void)state;
    for (int i = 0; i < planted_count; i++)
        for (int seed = 1; seed <= SEEDS; seed++) {
            const planted_case *c = &planted_cases[i];
            const char *word = SANITIZED ? c->word_sanitizer : c->word;
            const int result = run_child(c, seed, text);
            const bool found = !word                        ? result == PLANTED_GOOD
                               : strcmp(word, "wrong") == 0 ? result == PLANTED_WRONG
                                                            : result == -1 && strstr(text, word);
            if (seed == 1) printf("%-34s %s\n", c->name, !word ? "good" : found ? "found" : "NOT FOUND");
            if (found) continue;
            printf("%s, seed %d: result %d, wanted \"%s\"; it said:\n%s\n", c->name, seed, result, word ? word : "",
                   text);
            wrong++;
        }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planted)};
    if (!__builtin_cpu_supports("fma")) {
        printf("skipped: this machine has no fused multiply-add\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
