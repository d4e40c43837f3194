/* test_file.c - would catch: a replaced file that is lost or torn when the disk fills, a temporary file left behind, a
 * device renamed over, what killed processes left growing without end, a set of files of which one fails, a read past a
 * limit. The full disk is RLIMIT_FSIZE with SIGXFSZ ignored.
 */
#include "base/cmocka_all.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[2][OC_PATH_MAX];
    static int turn;
    turn = !turn;
    must(oc_path_join(path[turn], sizeof path[turn], folder, name));
    return path[turn];
}

static int entries_count(void)
{
    int count = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    while (readdir(d)) count++;
    closedir(d);
    return count - 2;
}

static void content_is(const char *path, const char *wanted)
{
    char *data;
    size_t bytes;
    must(oc_file_read(path, 1 << 20, &data, &bytes));
    assert_int_equal(bytes, strlen(wanted));
    assert_string_equal(data, wanted);          /* NUL behind the end */
    oc_memory_free(data);
}

static int setup(void **state)
{
    (void)state;
    folder_make(folder, sizeof folder, "file");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] != '.' || strlen(e->d_name) > 2) remove(in_folder(e->d_name));
    }
    if (d) closedir(d);
    return rmdir(folder);
}

static void test_paths(void **state)
{
    (void)state;
    char path[64], small[8];
    static const struct { const char *folder, *name, *joined; } cases[] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        must(oc_path_join(path, sizeof path, cases[i].folder, cases[i].name));
        assert_string_equal(path, cases[i].joined);
    }
    must_fail(oc_path_join(small, sizeof small, "folder", "name"), OC_ELIMIT, "folder");
    must(oc_path_make_parent(in_folder("x/y//z/file")));
    must(oc_path_make_parent("file-without-folder"));
    must(oc_path_make_folders(in_folder("x/y/z/")));
    must(oc_path_make_folders("/"));
    assert_true(oc_path_is_folder(in_folder("x/y/z")));
    assert_true(oc_path_exists(in_folder("x")));
    assert_false(oc_path_exists(in_folder("no")));
    must(oc_file_write(in_folder("plain"), "1", 1));
    must_fail(oc_path_make_folders(in_folder("plain/below")), OC_EFAILED, "plain");
    rmdir(in_folder("x/y/z"));
    rmdir(in_folder("x/y"));
    rmdir(in_folder("x"));
}

static void test_write_and_read(void **state)
{
    (void)state;
    char *data;
    size_t bytes;
    const char *path = in_folder("f");
    must(oc_file_write(path, "one", 3));
    assert_int_equal(chmod(path, 0640), 0);
    must(oc_file_write(path, "second", 6));
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0640);   /* the mode outlives the replacement */
    content_is(path, "second");
    must(oc_file_read(path, 6, &data, &bytes));
    oc_memory_free(data);
    must_fail(oc_file_read(path, 5, &data, &bytes), OC_ELIMIT, "6 bytes");
    assert_null(data);
    must_fail(oc_file_read("/dev/zero", 5000, &data, &bytes), OC_ELIMIT, "/dev/zero");
    must_fail(oc_file_read(folder, 10, &data, &bytes), OC_EFAILED, "directory");
    must_fail(oc_file_read(in_folder("none"), 10, &data, &bytes), OC_EFAILED, "none: cannot open: No such file");
    must(oc_file_read("/proc/self/stat", 1 << 16, &data, &bytes));
    assert_true(bytes > 10);                    /* whose size is said to be 0 */
    oc_memory_free(data);
    assert_int_equal(entries_count(), 1);
}

static void test_not_regular(void **state)
{
    (void)state;
    const char *link = in_folder("link"), *path = in_folder("real");
    must_fail(oc_file_write("/dev/null", "x", 1), OC_EFAILED, "not a regular file");
    must_fail(oc_file_write(folder, "x", 1), OC_EFAILED, "not a regular file");
    must_fail(oc_file_write(in_folder("no/such"), "x", 1), OC_EFAILED, "no/such");
    link = in_folder("link"), path = in_folder("real");
    must(oc_file_write(path, "old", 3));
    assert_int_equal(symlink("real", link), 0);
    must(oc_file_write(link, "new", 3));
    content_is(in_folder("real"), "new");       /* behind the link, which stays one */
    struct stat s;
    assert_int_equal(lstat(in_folder("link"), &s), 0);
    assert_true(S_ISLNK(s.st_mode));
}

static void test_map(void **state)
{
    (void)state;
    oc_file_map map;
    must(oc_file_write(in_folder("m"), "abc", 3));
    must(oc_file_map_open(&map, in_folder("m")));
    assert_int_equal(map.bytes, 3);
    assert_memory_equal(map.data, "abc", 3);
    oc_file_map_close(&map);
    must(oc_file_write(in_folder("m"), "", 0));
    must(oc_file_map_open(&map, in_folder("m")));
    assert_true(map.data == NULL && map.bytes == 0);
    oc_file_map_close(&map);
    oc_file_map_close(&map);
    must_fail(oc_file_map_open(&map, "/dev/zero"), OC_EFAILED, "not a regular");
}

static void test_writer(void **state)
{
    (void)state;
    oc_file_writer *w;
    oc_file_map map;
    enum { PIECES = 3000, PIECE = 777 };
    unsigned char piece[PIECE];
    must(oc_file_writer_open(&w, in_folder("w")));
    for (int i = 0; i < PIECES; i++) {
        memset(piece, i & 255, sizeof piece);
        must(oc_file_writer_add(w, piece, sizeof piece));
    }
    assert_int_equal(oc_file_writer_bytes(w), PIECES * PIECE);
    must(oc_file_writer_patch(w, 0, "HEAD", 4));
    must(oc_file_writer_patch(w, PIECES * PIECE - 4, "TAIL", 4));
    assert_false(oc_path_exists(in_folder("w")));
    must(oc_file_writer_commit(w));
    must(oc_file_map_open(&map, in_folder("w")));
    assert_int_equal(map.bytes, PIECES * PIECE);
    assert_memory_equal(map.data, "HEAD", 4);
    assert_memory_equal(map.data + map.bytes - 4, "TAIL", 4);
    for (size_t i = 4; i < map.bytes - 4; i += 501) assert_int_equal(map.data[i], i / PIECE & 255);
    oc_file_map_close(&map);
    must(oc_file_writer_open(&w, in_folder("w")));
    must(oc_file_writer_add(w, "x", 1));
    oc_file_writer_abort(w);
    oc_file_writer_abort(NULL);
    must(oc_file_map_open(&map, in_folder("w")));
    assert_int_equal(map.bytes, PIECES * PIECE);
    oc_file_map_close(&map);
    assert_int_equal(entries_count(), 1);
}

static void disk_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    static char big[1 << 20];
    oc_file_writer *w;
    signal(SIGXFSZ, SIG_IGN);
    must(oc_file_write(in_folder("d"), "old", 3));
    disk_size(400000);
    oc_status whole = oc_file_write(in_folder("d"), big, sizeof big);
    must(oc_file_writer_open(&w, in_folder("d")));
    oc_status piece = OC_OK, commit;
    for (int i = 0; i < 1000 && piece == OC_OK; i++) piece = oc_file_writer_add(w, big, 1000);
    oc_status again = oc_file_writer_add(w, big, 1), patch = oc_file_writer_patch(w, 0, big, 1);
    commit = oc_file_writer_commit(w);          /* a writer that failed never replaces */
    disk_size(RLIM_INFINITY);
    must_fail(commit, OC_EFAILED, "untouched");
    assert_int_equal(whole, OC_EFAILED);
    assert_int_equal(piece, OC_EFAILED);
    assert_int_equal(again, OC_EFAILED);
    assert_int_equal(patch, OC_EFAILED);
    content_is(in_folder("d"), "old");
    assert_int_equal(entries_count(), 1);
}

/* A file named as process `pid` would name its temporary one beside `target`, last written `age_s` ago. */
static void orphan_make(long pid, const char *target, int age_s)
{
    char name[128];
    snprintf(name, sizeof name, ".outcry-%ld-7-%s.tmp", pid, target);
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    fclose(f);
    struct timespec when[2];
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &when[0]), 0);
    when[0].tv_sec -= age_s;
    when[1] = when[0];
    assert_int_equal(utimensat(AT_FDCWD, in_folder(name), when, 0), 0);
}

static bool orphan_there(long pid, const char *target)
{
    char name[128];
    snprintf(name, sizeof name, ".outcry-%ld-7-%s.tmp", pid, target);
    return oc_path_exists(in_folder(name));
}

static void test_orphans(void **state)
{
    (void)state;
    int ends[2], ready, status;
    oc_file_writer *w;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        if (oc_file_writer_open(&w, in_folder("o")) != OC_OK) _exit(1);
        if (write(ends[1], "r", 1) == 1) pause();
        _exit(1);
    }
    assert_int_equal(read(ends[0], &ready, 1), 1);
    assert_int_equal(entries_count(), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(ends[0]);
    close(ends[1]);
    orphan_make(child, "o", 3600);              /* goes */
    orphan_make(child, "p", 3600);              /* another target's */
    orphan_make(child, "o.x", 3600);
    orphan_make(getppid(), "o", 3600);          /* its process lives */
    must(oc_file_write(in_folder("o"), "new", 3));
    assert_false(orphan_there(child, "o"));
    assert_true(orphan_there(child, "p") && orphan_there(child, "o.x") && orphan_there(getppid(), "o"));
    assert_int_equal(entries_count(), 5);       /* and what the killed child left a moment ago */
    orphan_make(child, "o", 60);
    must(oc_file_write(in_folder("o"), "new", 3));
    assert_true(orphan_there(child, "o"));      /* young: perhaps the process of another machine */
    content_is(in_folder("o"), "new");
}

static void test_sets_of_files(void **state)
{
    (void)state;
    oc_file_writer *a, *b;
    char target[OC_PATH_MAX], temporary[OC_PATH_MAX];
    must(oc_file_write(in_folder("a"), "old", 3));
    must(oc_file_writer_open(&a, in_folder("a")));
    must(oc_file_writer_open(&b, in_folder("b")));
    must(oc_file_writer_add(a, "new", 3));
    must(oc_file_writer_prepare(a));
    must(oc_file_writer_prepare(b));
    must(oc_file_writer_prepare(b));
    content_is(in_folder("a"), "old");
    assert_false(oc_path_exists(in_folder("b")));
    oc_file_writer_abort(b);
    must(oc_file_writer_commit(a));
    content_is(in_folder("a"), "new");
    assert_int_equal(chmod(in_folder("a"), 0600), 0);
    must(oc_file_beside(in_folder("a"), target, temporary));
    struct stat s;
    assert_int_equal(stat(temporary, &s), 0);
    assert_int_equal(s.st_mode & 0077, 0);      /* what few may read is not open to all meanwhile */
    must(oc_file_replace(temporary, target));
    content_is(in_folder("a"), "");
    must_fail(oc_file_replace(temporary, target), OC_EFAILED, "untouched");
    assert_int_equal(entries_count(), 1);
}

/* The last: this process's hard limit goes down. */
static void test_open_files(void **state)
{
    (void)state;
    const struct rlimit few = {.rlim_cur = 64, .rlim_max = 128};
    struct rlimit now;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(oc_file_allow_open(100, "100 of them"), OC_OK);
    assert_true(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 100);
    assert_int_equal(oc_file_allow_open(10, "10 of them"), OC_OK); /* never lower */
    assert_true(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 100);
    assert_int_equal(oc_file_allow_open(129, "129 of them"), OC_ELIMIT);
    assert_non_null(strstr(oc_status_message(), "129 of them want 129 open files, 128 are allowed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_write_and_read, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_not_regular, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_map, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_writer, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_orphans, setup, teardown),
                                       cmocka_unit_test_setup_teardown(test_sets_of_files, setup, teardown),
                                       cmocka_unit_test(test_open_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
