/* test_base.c - allocation, log, escape, token buckets, live objects, error texts. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct captured {
    int lines;
    enum ph_log_level level;
    char last[2048];
    size_t n;
};

static void capture(void *self, enum ph_log_level level, const char *line, size_t n)
{
    struct captured *captured = self;
    captured->lines++;
    captured->level = level;
    captured->n = n;
    memcpy(captured->last, line, n);
    captured->last[n] = '\0';
}

TEST(base, version_is_the_header_s)
{
    CHECK_STR(ph_version(), PH_VERSION_STRING);
}

TEST(base, each_error_code_has_its_own_sentence)
{
    static const int codes[] = {
        PH_OK,          PH_E_AGAIN, PH_E_INVAL, PH_E_STATE,    PH_E_CLOSED,   PH_E_LIMIT,
        PH_E_CONFIG,    PH_E_IO,    PH_E_TLS,   PH_E_NOTFOUND, PH_E_BLOCKED,  PH_E_TOOBIG,
        PH_E_MALFORMED, PH_E_FATAL, PH_E_PROTO, PH_E_CRYPTO,   PH_E_INTERNAL,
    };
    const char *unknown = ph_strerror(-50);
    for (size_t i = 0; i < PH_COUNT_OF(codes); i++) {
        CHECK(strcmp(ph_strerror(codes[i]), unknown) != 0);
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(ph_strerror(codes[i]), ph_strerror(codes[j])) != 0);
    }
    CHECK_STR(ph_strerror(-199), ph_strerror(PH_E_FATAL));
    CHECK_STR(ph_strerror(7), unknown);
}

TEST(base, a_queue_that_grows_keeps_its_order)
{
    for (size_t head = 0; head < 4; head++) {
        int *queue = ph_queue_grow(NULL, sizeof(*queue), 0, 0, 4);
        for (int i = 0; i < 4; i++)
            queue[(head + (size_t)i) % 4] = i;
        queue = ph_queue_grow(queue, sizeof(*queue), 4, head, 8);
        for (int i = 0; i < 4; i++)
            CHECK_INT(queue[i], ==, i);
        ph_free(queue);
    }
}

TEST(base, fail_formats_and_cuts)
{
    struct ph_err err;
    char path[2048];
    CHECK_INT(ph_fail(&err, PH_E_CONFIG, "%s is %d", "x", 3), ==, PH_E_CONFIG);
    CHECK_STR(err.text, "x is 3");
    CHECK_INT(ph_fail(NULL, PH_E_IO, "%d", 1), ==, PH_E_IO);
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    ph_fail(&err, PH_E_IO, "%s", path);
    CHECK_INT(strlen(err.text), ==, sizeof(err.text) - 1);
}

TEST(base, failed_assertion_aborts)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        PH_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    int status = 0;
    CHECK_INT(waitpid(child, &status, 0), ==, child);
    CHECK(WIFSIGNALED(status));
    CHECK_INT(WTERMSIG(status), ==, SIGABRT);
}

TEST(base, alloc_lines_zeroes_and_aligns)
{
    for (size_t size = 0; size < 3000; size += 7) {
        uint8_t *p = ph_alloc_lines(size);
        CHECK_INT((uintptr_t)p % 64, ==, 0);
        for (size_t i = 0; i < size; i++)
            CHECK_INT(p[i], ==, 0);
        memset(p, 'x', size);
        ph_free_lines(p);
    }
}

TEST(base, alloc_zeroes_and_aligns)
{
    static const size_t sizes[] = {0, 1, 63, 64, 100, 128, 192, 4096, 262144};
    for (size_t i = 0; i < PH_COUNT_OF(sizes); i++) {
        uint8_t *p = ph_alloc(sizes[i]);
        for (size_t at = 0; at < sizes[i]; at++)
            CHECK_INT(p[at], ==, 0);
        if (sizes[i] != 0 && sizes[i] % 64 == 0)
            CHECK_INT((uintptr_t)p % 64, ==, 0);
        memset(p, 0xff, sizes[i]);
        ph_free(p);
    }
    struct ph_ring *ring = ph_alloc(sizeof(*ring));
    CHECK_INT((uintptr_t)ring % _Alignof(struct ph_ring), ==, 0);
    ph_free(ring);
}

TEST(base, strings_are_copied)
{
    char *a = ph_strdup("abc"), *b = ph_strndup("abcdef", 4), *c = ph_strndup(NULL, 0);
    CHECK_STR(a, "abc");
    CHECK_STR(b, "abcd");
    CHECK_STR(c, "");
    a = ph_realloc(a, 1000);
    CHECK_STR(a, "abc");
    ph_free(a);
    ph_free(b);
    ph_free(c);
    ph_free(NULL);
}

TEST(base, clock_does_not_go_back)
{
    uint64_t last = ph_clock_now();
    CHECK_INT(last, >, 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = ph_clock_now();
        CHECK(now >= last);
        last = now;
    }
}

TEST(base, random_fills_all_bytes)
{
    uint8_t a[600] = {0}, seen[600] = {0};
    for (int i = 0; i < 8; i++) {
        ph_random(a, sizeof(a));
        for (size_t at = 0; at < sizeof(a); at++)
            seen[at] |= a[at] != 0;
    }
    for (size_t at = 0; at < sizeof(a); at++)
        CHECK(seen[at]); /* 2^-64 a byte */
    ph_random(NULL, 0);
}

TEST(base, copies_are_counted)
{
    struct ph_stats stats = {0};
    char to[8] = "";
    ph_copy(&stats, to, "abcdefg", 8);
    CHECK_STR(to, "abcdefg");
    CHECK_INT(stats.copied, ==, 8);
    ph_copy(&stats, to, NULL, 0);
    ph_copy(NULL, to, "x", 2);
    CHECK_INT(stats.copied, ==, 8);
    CHECK_STR(to, "x");
}

TEST(base, live_objects_are_listed)
{
    const char *name = NULL;
    int64_t count = -1;
    int64_t before = ph_live_get(PH_LIVE_WT_STREAM);
    ph_live_add(PH_LIVE_WT_STREAM, 3);
    CHECK_INT(ph_live_objects(PH_LIVE_WT_STREAM, &name, &count), ==, 0);
    CHECK_STR(name, "wt_stream");
    CHECK_INT(count, ==, before + 3);
    ph_live_add(PH_LIVE_WT_STREAM, -3);
    CHECK_INT(ph_live_objects(0, &name, &count), ==, 0);
    CHECK_STR(name, "buf");
    CHECK_INT(ph_live_objects(PH_LIVE_COUNT, &name, &count), ==, PH_E_NOTFOUND);
}

TEST(base, bucket_gives_its_burst_then_its_rate)
{
    struct ph_bucket bucket;
    uint64_t now = 5 * PH_SEC;
    ph_bucket_init(&bucket, 10, 4, now);
    CHECK(!ph_bucket_take(&bucket, 11, now));
    CHECK(ph_bucket_take(&bucket, 10, now));
    CHECK(!ph_bucket_take(&bucket, 1, now));
    CHECK(ph_bucket_take(&bucket, 0, now));
    CHECK(!ph_bucket_take(&bucket, 1, now + PH_SEC / 4 - 1));
    CHECK(ph_bucket_take(&bucket, 1, now + PH_SEC / 4));
    CHECK(!ph_bucket_take(&bucket, 1, now + PH_SEC / 4));
    CHECK(ph_bucket_take(&bucket, 10, now + 3600 * PH_SEC));
    CHECK(!ph_bucket_take(&bucket, 1, now)); /* a clock that went back gives nothing */
}

TEST(base, bucket_loses_no_fractions)
{
    struct ph_bucket bucket;
    uint64_t taken = 0;
    ph_bucket_init(&bucket, 100, 333, 0);
    CHECK(ph_bucket_take(&bucket, 100, 0));
    /* 10 s in steps of 7 us, each worth about 2.3 thousandths of a token. */
    for (uint64_t now = 0; now < 10 * PH_SEC; now += 7000)
        taken += ph_bucket_take(&bucket, 1, now);
    CHECK_INT(taken, >=, 3328);
    CHECK_INT(taken, <=, 3330);
}

TEST(base, bucket_survives_extremes)
{
    struct ph_bucket bucket;
    ph_bucket_init(&bucket, UINT64_MAX / PH_SEC, UINT64_MAX / PH_SEC, 0);
    CHECK(ph_bucket_take(&bucket, UINT64_MAX / PH_SEC, 1));
    CHECK(ph_bucket_take(&bucket, UINT64_MAX / PH_SEC, UINT64_MAX));
    ph_bucket_init(&bucket, 1, 0, 0);
    CHECK(ph_bucket_take(&bucket, 1, 0));
    CHECK(!ph_bucket_take(&bucket, 1, UINT64_MAX));
}

TEST(base, log_goes_to_the_thread_s_sink_from_its_level_up)
{
    struct captured captured = {0};
    struct ph_thread env = {.log = capture, .self = &captured, .level = PH_LOG_INFO};
    ph_thread_set(&env);
    ph_log(PH_LOG_DEBUG, "quiet: %d", 1);
    CHECK_INT(captured.lines, ==, 0);
    ph_log(PH_LOG_INFO, "noun: event key=%d", 7);
    ph_thread_set(NULL);
    CHECK_INT(captured.lines, ==, 1);
    CHECK_INT(captured.level, ==, PH_LOG_INFO);
    CHECK_STR(captured.last, "noun: event key=7");
    CHECK_INT(captured.n, ==, strlen(captured.last));
    ph_log(PH_LOG_INFO, "to nobody");
    CHECK_INT(captured.lines, ==, 1);
}

TEST(base, long_log_line_is_cut_with_dots)
{
    struct captured captured = {0};
    struct ph_thread env = {.log = capture, .self = &captured, .level = PH_LOG_DEBUG};
    char text[1500];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    ph_thread_set(&env);
    ph_log(PH_LOG_DEBUG, "%s", text);
    ph_thread_set(NULL);
    CHECK_INT(captured.n, ==, 1023);
    CHECK_STR(captured.last + 1019, "a...");
}

TEST(base, limited_log_is_one_line_a_second)
{
    struct captured captured = {0};
    struct ph_thread env = {.log = capture, .self = &captured, .level = PH_LOG_INFO};
    struct ph_bucket bucket = {0};
    ph_thread_set(&env);
    for (uint64_t ms = 0; ms < 3500; ms++)
        ph_log_limited(&bucket, PH_SEC + ms * PH_MSEC, PH_LOG_WARNING, "peer: bad");
    CHECK_INT(captured.lines, ==, 4);
    ph_log_limited(&bucket, 10 * PH_SEC, PH_LOG_DEBUG, "not logged, takes no token");
    ph_log_limited(&bucket, 10 * PH_SEC, PH_LOG_WARNING, "peer: bad");
    ph_thread_set(NULL);
    CHECK_INT(captured.lines, ==, 5);
}

TEST(base, escape_leaves_only_printable_ascii)
{
    char out[64], tiny[6];
    CHECK_STR(ph_escape(out, sizeof(out), "a b~", 4), "a b~");
    CHECK_STR(ph_escape(out, sizeof(out), "\n\x1b[\\\x7f\xff\0", 7),
              "\\x0a\\x1b[\\x5c\\x7f\\xff\\x00");
    CHECK_STR(ph_escape(tiny, sizeof(tiny), "ab\n", 3), "ab");
    CHECK_STR(ph_escape(tiny, sizeof(tiny), "a\nb", 3), "a\\x0a");
    CHECK_STR(ph_escape(tiny, sizeof(tiny), "abcdefgh", 8), "abcde");
    CHECK_STR(ph_escape(tiny, 1, "a", 1), "");
    CHECK_STR(ph_escape(tiny, sizeof(tiny), NULL, 0), "");
    tiny[0] = 'k';
    CHECK(ph_escape(tiny, 0, "a", 1) == tiny);
    CHECK_INT(tiny[0], ==, 'k');
}

TEST(base, list_keeps_order_and_forgets_removed_links)
{
    struct ph_link head, a = {0}, b = {0}, c = {0};
    ph_list_init(&head);
    CHECK(ph_list_is_empty(&head));
    CHECK(ph_list_take(&head) == NULL);
    ph_list_remove(&a);
    ph_list_append(&head, &a);
    ph_list_append(&head, &b);
    ph_list_append(&head, &c);
    CHECK(ph_link_is_on(&b));
    ph_list_remove(&b);
    ph_list_remove(&b);
    CHECK(!ph_link_is_on(&b));
    CHECK(ph_list_take(&head) == &a);
    CHECK(ph_list_take(&head) == &c);
    CHECK(ph_list_is_empty(&head));
}
