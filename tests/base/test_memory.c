/* test_memory.c - would catch: unaligned or dirty blocks, overflow in sizes, an arena that gives beyond its end or
 * after its seal, a count that threads lose, a large block that does not ask for huge pages. */
#include "base/cmocka_all.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

static void test_blocks(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 1 << 20};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *p;
        must(oc_memory_new(&p, sizes[i], "test"));
        assert_int_equal((uintptr_t)p % OC_ALIGNMENT, 0);
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(p[j], 0);
        memset(p, 0xab, sizes[i]);              /* the next one of the size must be clean again */
        oc_memory_free(p);
    }
    oc_memory_free(NULL);
}

static void test_impossible_sizes(void **state)
{
    (void)state;
    static const struct { size_t count, element; } cases[] = {
        {SIZE_MAX, 1}, {SIZE_MAX, 2}, {SIZE_MAX / 2 + 1, 2}, {1, SIZE_MAX}, {(size_t)1 << 33, (size_t)1 << 31}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        void *p = &p;
        must_fail(oc_memory_new_array(&p, cases[i].count, cases[i].element, "the thing"), OC_EMEMORY, "the thing");
        assert_null(p);
    }
}

static void test_grow(void **state)
{
    (void)state;
    int *list = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        must(oc_memory_grow(&list, &capacity, (size_t)i + 1, sizeof *list, "list"));
        assert_true(capacity >= (size_t)i + 1);
        list[i] = i;
    }
    for (int i = 0; i < 1000; i++) assert_int_equal(list[i], i);
    size_t before = capacity, count = oc_memory_count();
    must(oc_memory_grow(&list, &capacity, before, sizeof *list, "list"));
    assert_int_equal(oc_memory_count(), count);
    must_fail(oc_memory_grow(&list, &capacity, SIZE_MAX / 2, sizeof *list, "list"), OC_EMEMORY, "list");
    assert_int_equal(capacity, before);         /* a failure leaves it usable */
    assert_int_equal(list[999], 999);
    oc_memory_free(list);
}

static void test_arena(void **state)
{
    (void)state;
    oc_arena arena;
    char *a, *b, *c;
    must(oc_arena_init(&arena, 192, "plan"));
    must(oc_arena_take(&arena, &a, 1, "a"));
    must(oc_arena_take(&arena, &b, 64, "b"));
    assert_int_equal(b - a, 64);
    must_fail(oc_arena_take(&arena, &c, 65, "c"), OC_EMEMORY, "plan: c wants 65");
    must_fail(oc_arena_take(&arena, &c, SIZE_MAX, "c"), OC_EMEMORY, "plan");
    assert_null(c);
    must(oc_arena_take(&arena, &c, 64, "c"));
    must_fail(oc_arena_take(&arena, &a, 1, "d"), OC_EMEMORY, "192 of 192");
    oc_arena_seal(&arena);
    must_fail(oc_arena_take(&arena, &a, 0, "d"), OC_EMEMORY, "after the seal");
    oc_arena_deinit(&arena);
    oc_arena_deinit(&arena);                    /* twice is harmless */
    assert_int_equal(oc_align_up(0), 0);
    assert_int_equal(oc_align_up(1), 64);
    assert_int_equal(oc_align_up(64), 64);
}

/* Whether the mapping that holds p asks for huge pages: 1, 0, or -1 where the system does not tell. */
static int huge_asked(const void *p)
{
    char line[512];
    unsigned long from, to;
    bool inside = false;
    int asked = -1;
    FILE *maps = fopen("/proc/self/smaps", "r");
    while (maps && asked < 0 && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = (uintptr_t)p >= from && (uintptr_t)p < to;
        if (inside && strncmp(line, "VmFlags:", 8) == 0) asked = strstr(line, " hg") != NULL;
    }
    if (maps) fclose(maps);
    return asked;
}

static void test_large_blocks_ask_for_huge_pages(void **state)
{
    (void)state;
    unsigned char *large, *small;
    must(oc_memory_new(&large, (size_t)16 << 20, "large"));
    must(oc_memory_new(&small, 4096, "small"));
    const int of_large = huge_asked(large + (8 << 20)), of_small = huge_asked(small);
    oc_memory_free(large);
    oc_memory_free(small);
    if (of_large < 0 || access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) != 0) skip();
    assert_int_equal(of_large, 1);
    assert_int_equal(of_small, 0);
}

enum { THREADS = 4, ROUNDS = 5000 };

static void *allocate_many(void *failed)
{
    for (int i = 0; i < ROUNDS; i++) {
        void *p;
        if (oc_memory_new(&p, 16, "test") != OC_OK) return failed;
        oc_memory_free(p);
    }
    return NULL;
}

static void test_count_of_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    size_t before = oc_memory_count();
    int failed;
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, allocate_many, &failed), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    assert_int_equal(oc_memory_count() - before, THREADS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks), cmocka_unit_test(test_impossible_sizes),
                                       cmocka_unit_test(test_grow), cmocka_unit_test(test_arena),
                                       cmocka_unit_test(test_count_of_threads),
                                       cmocka_unit_test(test_large_blocks_ask_for_huge_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
