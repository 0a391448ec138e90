/*
 * buf.c - reference-counted buffers, and queues of slices of them.
 *
 * All payload travels in these: received bytes up to the consumer, written bytes down to a stream's
 * send queue, where they stay until they are acknowledged. Invariants:
 * - a plain buffer (ph_buf_new, ph_buf_copy) is one allocation and freed where its last reference
 *   falls, on any thread;
 * - a wrapped buffer belongs to the consumer: when its last reference falls on a thread with a home
 *   list, it is chained there and released later by the consumer (ph_buf_release_chain);
 * - in a ph_sliceq: 0 <= head_off <= position of the cursor; the cursor never rests at the end of a
 *   slice but at the start of the next; every slice in it has n > 0; sent bytes = bytes - unsent.
 *
 *      head                 cur                     head+count
 *       v                    v                          v
 *      [ dropped | sent ][ sent | unsent ][   unsent   ]
 *        head_off          cur_off
 */
#include "base.h"

#include "base_internal.h"

#include <stdlib.h>
#include <unistd.h>

/* --- Buffers --- */

static ph_buf *buf_make(size_t room)
{
    PH_ASSERT(room <= PTRDIFF_MAX - sizeof(struct ph_buf));
    ph_buf *buf = ph_realloc(NULL, sizeof(*buf) + room); /* payload is not zeroed */
    *buf = (struct ph_buf){.refs = 1, .cap = room};
    ph_live_add(PH_LIVE_BUF, 1);
    return buf;
}

struct file_part { /* in place of the payload */
    int fd;
    uint64_t offset;
};

static void file_close(void *ctx)
{
    close(((struct file_part *)ctx)->fd);
}

static void buf_destroy(ph_buf *buf)
{
    if (buf->release != NULL)
        buf->release(buf->ctx);
    ph_free(buf);
    ph_live_add(PH_LIVE_BUF, -1);
}

ph_buf *ph_buf_new(size_t cap)
{
    ph_buf *buf = buf_make(cap);
    buf->data = (uint8_t *)(buf + 1);
    return buf;
}

ph_buf *ph_buf_try_new(size_t cap)
{
    PH_ASSERT(cap <= PTRDIFF_MAX - sizeof(struct ph_buf));
    ph_buf *buf = ph_try_alloc(sizeof(*buf) + cap);
    if (buf == NULL)
        return NULL;
    *buf = (struct ph_buf){.refs = 1, .cap = cap, .data = (uint8_t *)(buf + 1)};
    ph_live_add(PH_LIVE_BUF, 1);
    return buf;
}

ph_buf *ph_buf_copy(const void *data, size_t len)
{
    ph_buf *buf = ph_buf_new(len);
    if (len > 0)
        memcpy(buf->data, data, len);
    buf->len = len;
    return buf;
}

ph_buf *ph_buf_wrap(const void *data, size_t len, ph_buf_release_fn release, void *ctx)
{
    ph_buf *buf = buf_make(0);
    /* Never written through: only buffers of ph_buf_new() are filled. */
    buf->data = (uint8_t *)(uintptr_t)data;
    buf->len = buf->cap = len;
    buf->release = release;
    buf->ctx = ctx;
    return buf;
}

struct ph_buf *ph_buf_file(int fd, uint64_t offset, size_t len)
{
    struct ph_buf *buf = buf_make(sizeof(struct file_part));
    struct file_part *part = (struct file_part *)(void *)(buf + 1);
    *part = (struct file_part){fd, offset};
    buf->len = buf->cap = len;
    buf->release = file_close;
    buf->ctx = part;
    return buf;
}

ph_buf *ph_buf_ref(ph_buf *buf)
{
    /* Relaxed: the caller holds a reference, so nothing can be freed meanwhile. */
    atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
    return buf;
}

void ph_buf_unref(ph_buf *buf)
{
    if (buf == NULL)
        return;
    /* Acquire: pairs with the release below, in case another thread dropped its reference just now.
     * A sole owner saves the locked instruction. */
    if (atomic_load_explicit(&buf->refs, memory_order_acquire) != 1) {
        /* Release: our reads of the bytes come before the free; acquire: so do those of the
         * others. */
        if (atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) != 1)
            return;
    }
    bool is_wrapped = buf->release != NULL && buf->data != NULL;
    struct ph_buf_home *home = is_wrapped ? ph_thread_home() : NULL;
    if (home == NULL) {
        buf_destroy(buf);
        return;
    }
    buf->next = NULL;
    if (home->tail != NULL)
        home->tail->next = buf;
    else
        home->head = buf;
    home->tail = buf;
    home->count++;
}

void ph_buf_release_chain(struct ph_buf *chain)
{
    while (chain != NULL) {
        struct ph_buf *next = chain->next;
        buf_destroy(chain);
        chain = next;
    }
}

uint8_t *ph_buf_data(ph_buf *buf)
{
    return buf->data;
}

size_t ph_buf_len(const ph_buf *buf)
{
    return buf->len;
}

void ph_buf_set_len(ph_buf *buf, size_t len)
{
    PH_ASSERT(len <= buf->cap);
    buf->len = len;
}

/* --- Slice queue --- */

/* Room of the buffer that ph_sliceq_push_copy() makes, bytes: frame headers and small control
 * messages that follow each other share one. */
#define PH_SLICEQ_COPY_ROOM 128

static struct ph_slice *slice_at(const struct ph_sliceq *q, uint32_t index)
{
    return &q->ring[(q->head + index) & (q->cap - 1)];
}

void ph_sliceq_init(struct ph_sliceq *q)
{
    *q = (struct ph_sliceq){.ring = NULL};
}

void ph_sliceq_fini(struct ph_sliceq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        ph_buf_unref(slice_at(q, i)->buf);
    ph_free(q->ring);
    ph_sliceq_init(q);
}

static void sliceq_grow(struct ph_sliceq *q)
{
    uint32_t cap = q->cap != 0 ? q->cap * 2 : 4;
    q->ring = ph_queue_grow(q->ring, sizeof(*q->ring), q->cap, q->head, cap);
    q->cap = cap;
    q->head = 0;
}

void ph_sliceq_push(struct ph_sliceq *q, struct ph_slice slice)
{
    if (slice.n == 0) {
        ph_buf_unref(slice.buf);
        return;
    }
    if (q->count == q->cap)
        sliceq_grow(q);
    *slice_at(q, q->count) = slice;
    q->count++;
    q->bytes += slice.n;
    q->unsent += slice.n;
}

/* The last slice, when it ends in free room of a plain buffer that nobody else refers to. */
static struct ph_slice *sliceq_open_tail(const struct ph_sliceq *q, size_t n)
{
    if (q->count == 0)
        return NULL;
    struct ph_slice *tail = slice_at(q, q->count - 1);
    struct ph_buf *buf = tail->buf;
    /* Acquire: pairs with the release in ph_buf_unref() of a former owner on another thread. */
    if (buf == NULL || buf->release != NULL || buf->cap - buf->len < n ||
        tail->p + tail->n != buf->data + buf->len ||
        atomic_load_explicit(&buf->refs, memory_order_acquire) != 1)
        return NULL;
    return tail;
}

void ph_sliceq_push_copy(struct ph_sliceq *q, const void *data, size_t n)
{
    if (n == 0)
        return;
    struct ph_slice *tail = sliceq_open_tail(q, n);
    if (tail == NULL) {
        struct ph_buf *buf = ph_buf_new(PH_MAX(n, (size_t)PH_SLICEQ_COPY_ROOM));
        memcpy(buf->data, data, n);
        buf->len = n;
        ph_sliceq_push(q, ph_slice_of(buf));
        return;
    }
    if (q->cur == q->count) { /* the tail was sent whole: its new end was not */
        q->cur--;
        q->cur_off = tail->n;
    }
    memcpy(tail->buf->data + tail->buf->len, data, n);
    tail->buf->len += n;
    tail->n += n;
    q->bytes += n;
    q->unsent += n;
}

size_t ph_sliceq_gather(const struct ph_sliceq *q, struct iovec *iov, size_t max, size_t max_bytes)
{
    size_t count = 0;
    size_t off = q->cur_off;
    for (uint32_t i = q->cur; i < q->count && count < max && max_bytes > 0; i++) {
        const struct ph_slice *slice = slice_at(q, i);
        if (slice->p == NULL)
            break;
        size_t n = PH_MIN(slice->n - off, max_bytes);
        iov[count].iov_base = (void *)(uintptr_t)(slice->p + off);
        iov[count].iov_len = n;
        count++;
        max_bytes -= n;
        off = 0;
    }
    return count;
}

size_t ph_sliceq_file(const struct ph_sliceq *q, int *fd, uint64_t *offset)
{
    const struct ph_slice *slice = q->cur < q->count ? slice_at(q, q->cur) : NULL;
    if (slice == NULL || slice->p != NULL)
        return 0;
    const struct file_part *part = slice->buf->ctx;
    *fd = part->fd;
    *offset = part->offset + q->cur_off;
    return slice->n - q->cur_off;
}

void ph_sliceq_advance(struct ph_sliceq *q, size_t n)
{
    PH_ASSERT(n <= q->unsent);
    q->unsent -= n;
    while (n > 0) {
        size_t left = slice_at(q, q->cur)->n - q->cur_off;
        if (n < left) {
            q->cur_off += n;
            return;
        }
        n -= left;
        q->cur++;
        q->cur_off = 0;
    }
}

void ph_sliceq_drop(struct ph_sliceq *q, size_t n)
{
    PH_ASSERT(n <= q->bytes - q->unsent);
    q->bytes -= n;
    while (n > 0) {
        struct ph_slice *slice = slice_at(q, 0);
        size_t left = slice->n - q->head_off;
        if (n < left) {
            q->head_off += n;
            return;
        }
        n -= left;
        ph_buf_unref(slice->buf);
        q->head = (q->head + 1) & (q->cap - 1);
        q->count--;
        q->cur--; /* the cursor is past a slice that was sent whole */
        q->head_off = 0;
    }
}

void ph_sliceq_drop_unsent(struct ph_sliceq *q)
{
    q->bytes -= q->unsent;
    q->unsent = 0;
    if (q->cur == q->count)
        return;
    /* The slice under the cursor keeps what was sent of it and not yet dropped. */
    size_t dropped = q->cur == 0 ? q->head_off : 0;
    uint32_t keep = q->cur;
    if (q->cur_off > dropped) {
        slice_at(q, q->cur)->n = q->cur_off;
        keep++;
    } else if (q->cur == 0) {
        q->head_off = 0;
    }
    for (uint32_t i = keep; i < q->count; i++)
        ph_buf_unref(slice_at(q, i)->buf);
    q->count = keep;
    q->cur = keep;
    q->cur_off = 0;
}

void ph_sliceq_move(struct ph_sliceq *to, struct ph_sliceq *from, size_t n)
{
    PH_ASSERT(from->bytes == from->unsent && n <= from->unsent);
    while (n > 0) {
        const struct ph_slice *slice = slice_at(from, 0);
        PH_ASSERT(slice->p != NULL); /* a part of a file's slice would name its beginning */
        size_t part = PH_MIN(n, slice->n - from->head_off);
        struct ph_slice moved = {.buf = slice->buf, .p = slice->p + from->head_off, .n = part};
        if (moved.buf != NULL)
            ph_buf_ref(moved.buf);
        ph_sliceq_push(to, moved);
        ph_sliceq_advance(from, part);
        ph_sliceq_drop(from, part);
        n -= part;
    }
}
