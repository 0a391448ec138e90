/*
 * quic_dgram.c - bounded queues of outbound datagrams (RFC 9221).
 *
 * Each queue belongs to a WebTransport session and drops its oldest entry when a new one does not
 * fit: late datagrams are worth less than fresh ones. The queues of a connection take turns, one
 * datagram each. What is too old or too large for the path when its turn comes is dropped and
 * counted here, so that it cannot hold up what waits behind it.
 */
#include "quic_internal.h"

static struct ph_quic_dgram *first_of(struct ph_quic_dgramq *q)
{
    return &q->ring[q->head];
}

/* Takes the first entry off; the caller reports it with on_left. */
static void drop_first(struct ph_quic_dgramq *q)
{
    struct ph_quic_dgram *dgram = first_of(q);
    q->bytes -= (uint32_t)ph_buf_len(dgram->buf);
    ph_buf_unref(dgram->buf);
    dgram->buf = NULL;
    q->head = q->head + 1 == q->max_entries ? 0 : q->head + 1;
    q->count--;
}

static void report_left(struct ph_quic_dgramq *q, size_t n)
{
    if (n > 0 && q->on_left != NULL)
        q->on_left(q, n);
}

void ph_quic_dgramq_init(struct ph_quic_dgramq *q, struct ph_quic_conn *conn, const uint8_t *prefix,
                         size_t prefix_len, uint32_t max_entries, uint32_t max_bytes)
{
    PH_ASSERT(prefix_len <= sizeof(q->prefix) && max_entries > 0);
    *q = (struct ph_quic_dgramq){.conn = conn,
                                 .prefix_len = (uint8_t)prefix_len,
                                 .max_entries = max_entries,
                                 .max_bytes = max_bytes};
    if (prefix_len > 0)
        memcpy(q->prefix, prefix, prefix_len);
    q->ring = ph_alloc(max_entries * sizeof(struct ph_quic_dgram));
    ph_list_append(&conn->dgramqs, &q->link);
}

void ph_quic_dgramq_fini(struct ph_quic_dgramq *q)
{
    while (q->count > 0)
        drop_first(q);
    ph_list_remove(&q->link);
    ph_free(q->ring);
    q->ring = NULL;
    q->conn = NULL;
}

void ph_quic_dgramq_push(struct ph_quic_dgramq *q, struct ph_buf *buf, uint64_t expires)
{
    size_t n = ph_buf_len(buf), dropped = 0;
    if (q->conn == NULL || q->ring == NULL) {
        ph_buf_unref(buf);
        report_left(q, 1);
        return;
    }
    struct ph_stats *stats = q->conn->ep->stats;
    /* ngtcp2 before 1.12 cannot write a DATAGRAM frame without a byte in it. */
    bool empty = n + q->prefix_len == 0;
    if (n > q->max_bytes || empty) {
        ph_buf_unref(buf);
        if (empty)
            ph_count(stats, datagrams_out_dropped);
        else
            ph_count(stats, datagrams_out_toobig);
        report_left(q, 1);
        return;
    }
    while (q->count > 0 && (q->count == q->max_entries || q->bytes + n > q->max_bytes)) {
        drop_first(q);
        ph_count(stats, datagrams_out_dropped);
        dropped++;
    }
    uint32_t tail = q->head + q->count;
    if (tail >= q->max_entries)
        tail -= q->max_entries;
    q->ring[tail] = (struct ph_quic_dgram){.buf = buf, .expires = expires};
    q->count++;
    q->bytes += (uint32_t)n;
    ph_quic_mark_dirty(q->conn);
    report_left(q, dropped);
}

/* Drops what must not be sent any more from the front of one queue. `max` is what the path and the
 * peer take, prefix included. */
static void prune(struct ph_quic_dgramq *q, size_t max, uint64_t now)
{
    struct ph_stats *stats = q->conn->ep->stats;
    while (q->count > 0) {
        const struct ph_quic_dgram *dgram = first_of(q);
        if (dgram->expires <= now)
            ph_count(stats, datagrams_out_expired);
        else if (ph_buf_len(dgram->buf) + q->prefix_len > max)
            ph_count(stats, datagrams_out_toobig);
        else
            break;
        drop_first(q);
        q->left++;
    }
}

struct ph_quic_dgramq *ph_quic_dgramq_first(struct ph_quic_conn *conn, size_t max, uint64_t now)
{
    struct ph_link *link = conn->dgramqs.next;
    while (link != &conn->dgramqs) {
        struct ph_quic_dgramq *q = PH_CONTAINER(link, struct ph_quic_dgramq, link);
        link = link->next;
        if (q->count > 0)
            prune(q, max, now);
        if (q->count > 0)
            return q;
    }
    return NULL;
}

void ph_quic_dgramq_sent(struct ph_quic_dgramq *q)
{
    struct ph_quic_conn *conn = q->conn;
    drop_first(q);
    ph_count(conn->ep->stats, datagrams_out);
    ph_list_remove(&q->link);
    ph_list_append(&conn->dgramqs, &q->link);
    q->left++;
}

void ph_quic_dgramqs_report(struct ph_quic_conn *conn)
{
    struct ph_link *link = conn->dgramqs.next;
    while (link != &conn->dgramqs) {
        struct ph_quic_dgramq *q = PH_CONTAINER(link, struct ph_quic_dgramq, link);
        size_t n = q->left;
        link = link->next;
        if (n == 0)
            continue;
        q->left = 0;
        report_left(q, n);
        link = conn->dgramqs.next; /* the owner may have ended any queue */
    }
}

void ph_quic_dgramqs_orphan(struct ph_quic_conn *conn)
{
    struct ph_link *link;
    while ((link = ph_list_take(&conn->dgramqs)) != NULL)
        PH_CONTAINER(link, struct ph_quic_dgramq, link)->conn = NULL;
}
