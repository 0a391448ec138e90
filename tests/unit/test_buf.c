/* test_buf.c - reference counts, home lists, and the slice queue against a plain byte model. */
#include "test.h"

#include <pthread.h>

static void count_release(void *ctx)
{
    ++*(int *)ctx;
}

TEST(buf, copy_holds_its_bytes)
{
    ph_buf *buf = ph_buf_copy("hello", 5);
    CHECK_INT(ph_buf_len(buf), ==, 5);
    CHECK_MEM(ph_buf_data(buf), "hello", 5);
    ph_buf_unref(buf);
    buf = ph_buf_copy(NULL, 0);
    CHECK_INT(ph_buf_len(buf), ==, 0);
    ph_buf_unref(buf);
    ph_buf_unref(NULL);
}

TEST(buf, new_is_empty_and_fills_to_its_capacity)
{
    ph_buf *buf = ph_buf_new(16);
    CHECK_INT(ph_buf_len(buf), ==, 0);
    memset(ph_buf_data(buf), 'x', 16);
    ph_buf_set_len(buf, 16);
    CHECK_INT(ph_buf_len(buf), ==, 16);
    ph_buf_unref(buf);
}

TEST(buf, last_reference_releases_in_place_without_a_home)
{
    int released = 0;
    int64_t before = ph_live_get(PH_LIVE_BUF);
    ph_buf *buf = ph_buf_wrap("abc", 3, count_release, &released);
    CHECK_INT(ph_live_get(PH_LIVE_BUF), ==, before + 1);
    CHECK(ph_buf_ref(buf) == buf);
    ph_buf_unref(buf);
    CHECK_INT(released, ==, 0);
    ph_buf_unref(buf);
    CHECK_INT(released, ==, 1);
    CHECK_INT(ph_live_get(PH_LIVE_BUF), ==, before);
}

TEST(buf, wrapped_buffers_go_home_and_plain_ones_do_not)
{
    int released = 0;
    struct ph_buf_home home = {.head = NULL};
    struct ph_thread env = {.home = &home};
    ph_buf *a = ph_buf_wrap("a", 1, count_release, &released);
    ph_buf *b = ph_buf_wrap("b", 1, count_release, &released);
    ph_buf *forever = ph_buf_wrap("static", 6, NULL, NULL);
    ph_thread_set(&env);
    ph_buf_unref(ph_buf_copy("plain", 5));
    ph_buf_unref(forever);
    CHECK_INT(home.count, ==, 0);
    ph_buf_unref(a);
    ph_buf_unref(b);
    ph_thread_set(NULL);
    CHECK_INT(released, ==, 0);
    CHECK_INT(home.count, ==, 2);
    CHECK(home.head == a && a->next == b && b->next == NULL && home.tail == b);
    ph_buf_release_chain(home.head);
    CHECK_INT(released, ==, 2);
    ph_buf_release_chain(NULL);
}

static void *drop_many(void *arg)
{
    ph_buf **bufs = arg;
    for (int i = 0; i < 2000; i++)
        ph_buf_unref(bufs[i]);
    return NULL;
}

static void count_release_shared(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

TEST(buf, two_threads_drop_their_references_and_one_releases)
{
    static ph_buf *bufs[2000];
    atomic_int released = 0;
    pthread_t thread;
    for (int i = 0; i < 2000; i++)
        bufs[i] = ph_buf_ref(ph_buf_wrap("x", 1, count_release_shared, &released));
    CHECK_INT(pthread_create(&thread, NULL, drop_many, bufs), ==, 0);
    drop_many(bufs);
    pthread_join(thread, NULL);
    CHECK_INT(released, ==, 2000);
}

/* --- Slice queue --- */

static struct ph_slice slice_copy(const char *text)
{
    return ph_slice_of(ph_buf_copy(text, strlen(text)));
}

/* What the queue would send next, as text. */
static const char *unsent_text(const struct ph_sliceq *q, char *out, size_t cap)
{
    struct iovec iov[64];
    size_t n = ph_sliceq_gather(q, iov, PH_COUNT_OF(iov), cap - 1), at = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(out + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    out[at] = '\0';
    return out;
}

TEST(sliceq, gather_starts_at_the_cursor_and_keeps_limits)
{
    struct ph_sliceq q;
    struct iovec iov[8];
    char text[64];
    ph_sliceq_init(&q);
    CHECK_INT(ph_sliceq_gather(&q, iov, 8, 100), ==, 0);
    ph_sliceq_push(&q, slice_copy("abc"));
    ph_sliceq_push(&q, (struct ph_slice){.buf = NULL, .p = (const uint8_t *)"defg", .n = 4});
    ph_sliceq_push(&q, slice_copy("hi"));
    CHECK_INT(q.bytes, ==, 9);
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "abcdefghi");
    ph_sliceq_advance(&q, 4);
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "efghi");
    CHECK_INT(ph_sliceq_gather(&q, iov, 1, 100), ==, 1);
    CHECK_INT(iov[0].iov_len, ==, 3);
    CHECK_INT(ph_sliceq_gather(&q, iov, 8, 4), ==, 2);
    CHECK_INT(iov[1].iov_len, ==, 1);
    CHECK_INT(ph_sliceq_gather(&q, iov, 8, 0), ==, 0);
    CHECK_INT(q.unsent, ==, 5);
    ph_sliceq_drop(&q, 4);
    CHECK_INT(q.bytes, ==, 5);
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "efghi");
    ph_sliceq_fini(&q);
}

TEST(sliceq, empty_slices_are_dropped)
{
    struct ph_sliceq q;
    ph_sliceq_init(&q);
    ph_sliceq_push(&q, slice_copy(""));
    ph_sliceq_push(&q, (struct ph_slice){.n = 0});
    ph_sliceq_push_copy(&q, NULL, 0);
    CHECK_INT(q.count, ==, 0);
    ph_sliceq_fini(&q);
}

TEST(sliceq, small_copies_share_a_buffer_but_not_with_others)
{
    struct ph_sliceq q;
    char text[64];
    ph_sliceq_init(&q);
    ph_sliceq_push_copy(&q, "ab", 2);
    ph_sliceq_push_copy(&q, "cd", 2);
    CHECK_INT(q.count, ==, 1);
    ph_sliceq_advance(&q, 4); /* sent whole: the next bytes reopen the slice */
    ph_sliceq_push_copy(&q, "ef", 2);
    CHECK_INT(q.count, ==, 1);
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "ef");
    ph_sliceq_drop(&q, 4);
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "ef");

    struct ph_buf *shared = ph_buf_new(100);
    memcpy(shared->data, "gh", 2);
    ph_buf_set_len(shared, 2);
    ph_sliceq_push(&q, ph_slice_of(ph_buf_ref(shared)));
    ph_sliceq_push_copy(&q, "ij", 2);
    CHECK_INT(ph_buf_len(shared), ==, 2);
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "efghij");
    ph_buf_unref(shared);
    ph_sliceq_fini(&q);
}

TEST(sliceq, dropping_the_unsent_keeps_what_waits_for_its_acknowledgement)
{
    struct ph_sliceq q;
    char text[64];
    ph_sliceq_init(&q);
    ph_sliceq_push(&q, slice_copy("abc"));
    ph_sliceq_push(&q, slice_copy("def"));
    ph_sliceq_push(&q, slice_copy("ghi"));
    ph_sliceq_advance(&q, 4);
    ph_sliceq_drop_unsent(&q);
    CHECK_INT(q.bytes, ==, 4);
    CHECK_INT(q.unsent, ==, 0);
    CHECK_INT(q.count, ==, 2);
    ph_sliceq_push(&q, slice_copy("xy"));
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "xy");
    ph_sliceq_drop(&q, 4);
    CHECK_INT(q.count, ==, 1);
    ph_sliceq_advance(&q, 1);
    ph_sliceq_drop(&q, 1);
    ph_sliceq_drop_unsent(&q); /* the sent part of the head is dropped already */
    CHECK_INT(q.count, ==, 0);
    CHECK_INT(q.bytes, ==, 0);
    ph_sliceq_drop_unsent(&q);
    ph_sliceq_push(&q, slice_copy("new"));
    CHECK_STR(unsent_text(&q, text, sizeof(text)), "new");
    ph_sliceq_fini(&q);
}

/* The queue against three positions in one long stream of bytes: byte k of it is f(k). */
struct model {
    uint64_t end;     /* bytes ever pushed (less those forgotten unsent) */
    uint64_t sent;    /* cursor */
    uint64_t dropped; /* head */
    uint64_t random;
};

static uint8_t byte_at(uint64_t k)
{
    return (uint8_t)(k * 2654435761u >> 13);
}

static size_t model_random(struct model *m, size_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(m->random >> 33) % below;
}

static void model_push(struct model *m, struct ph_sliceq *q)
{
    uint8_t bytes[300];
    size_t n = model_random(m, 4) == 0 ? model_random(m, sizeof(bytes)) : model_random(m, 9);
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(m->end + i);
    m->end += n;
    if (model_random(m, 2) == 0) {
        ph_sliceq_push_copy(q, bytes, n);
        return;
    }
    /* A view into the middle of a larger buffer. */
    struct ph_buf *buf = ph_buf_new(n + 20);
    memset(buf->data, 0xee, n + 20);
    if (n > 0)
        memcpy(buf->data + 7, bytes, n);
    ph_buf_set_len(buf, n + 14);
    ph_sliceq_push(q, (struct ph_slice){.buf = buf, .p = buf->data + 7, .n = n});
}

static void model_check(const struct model *m, const struct ph_sliceq *q)
{
    struct iovec iov[5];
    CHECK_INT(q->bytes, ==, m->end - m->dropped);
    CHECK_INT(q->unsent, ==, m->end - m->sent);
    CHECK(q->bytes == 0 || q->count > 0);
    CHECK(q->bytes != 0 || q->count == 0);
    size_t n = ph_sliceq_gather(q, iov, PH_COUNT_OF(iov), 200);
    uint64_t at = m->sent;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = iov[i].iov_base;
        CHECK_INT(iov[i].iov_len, >, 0);
        for (size_t k = 0; k < iov[i].iov_len; k++)
            CHECK_INT(p[k], ==, byte_at(at++));
    }
    CHECK(n > 0 || q->unsent == 0);
}

TEST(sliceq, behaves_as_a_byte_stream_under_random_use)
{
    struct ph_sliceq q;
    struct model m = {.random = ph_test_seed()};
    ph_sliceq_init(&q);
    for (int step = 0; step < 60000; step++) {
        size_t op = model_random(&m, 20);
        if (op < 8) {
            model_push(&m, &q);
        } else if (op < 14) {
            size_t n = model_random(&m, (size_t)PH_MIN(m.end - m.sent, UINT64_C(400)) + 1);
            ph_sliceq_advance(&q, n);
            m.sent += n;
        } else if (op < 19) {
            size_t n = model_random(&m, (size_t)(m.sent - m.dropped) + 1);
            ph_sliceq_drop(&q, n);
            m.dropped += n;
        } else {
            ph_sliceq_drop_unsent(&q);
            m.end = m.sent;
        }
        model_check(&m, &q);
    }
    CHECK_INT(m.dropped, >, 10000);
    ph_sliceq_fini(&q);
}

TEST(sliceq, move_shares_buffers_and_keeps_the_rest)
{
    struct ph_sliceq from, to;
    struct iovec iov[4];
    ph_sliceq_init(&from);
    ph_sliceq_init(&to);
    struct ph_buf *buf = ph_buf_copy("abcdef", 6);
    ph_sliceq_push(&from, ph_slice_of(buf));
    ph_sliceq_push(&from, (struct ph_slice){.p = (const uint8_t *)"gh", .n = 2});
    ph_sliceq_move(&to, &from, 4);
    CHECK_INT(from.unsent, ==, 4);
    CHECK_INT(to.unsent, ==, 4);
    CHECK_INT(ph_sliceq_gather(&to, iov, 4, SIZE_MAX), ==, 1);
    CHECK(iov[0].iov_base == buf->data);
    ph_sliceq_move(&to, &from, 3);
    CHECK_INT(from.bytes, ==, 1);
    CHECK_INT(ph_sliceq_gather(&to, iov, 4, SIZE_MAX), ==, 3);
    CHECK_MEM(iov[1].iov_base, "ef", 2);
    CHECK_MEM(iov[2].iov_base, "g", 1);
    ph_sliceq_fini(&from);
    ph_sliceq_fini(&to);
}
