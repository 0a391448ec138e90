/*
 * quic_send.c - packets out: frames into packets, packets into batches, batches to the socket.
 *
 * The order inside a packet: urgent streams (CONNECT streams, control), then datagrams, then the
 * other streams, by urgency and round-robin within one. The library adds acknowledgements, credit
 * and retransmissions by itself. Packets of equal size for one path are collected in one buffer and
 * leave in one send (UDP_SEGMENT); a shorter one ends a batch, a longer one starts the next. What a
 * full socket does not take is held, in order, and nothing more is written for that socket until it
 * is writable again. One burst per connection and flush: the congestion controller's send quantum.
 */
#include "quic_internal.h"

#include <limits.h>

struct writer {
    struct ph_quic_conn *conn;
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    uint8_t *dest;
    size_t cap;
    size_t max_datagram;
    uint64_t now;
    uint64_t window;   /* bytes that the connection's window still takes */
    bool streams_done; /* the packet takes no more */
};

struct batch {
    struct ph_path path;
    size_t len, segment;
    unsigned count;
    uint8_t ecn;
};

/* --- Sockets --- */

static bool is_held(const struct ph_quic_endpoint *ep, const void *sock)
{
    for (const struct ph_link *l = ep->held.next; l != &ep->held; l = l->next) {
        const struct ph_quic_held *held = PH_CONTAINER(l, struct ph_quic_held, link);
        if (held->path.sock == sock)
            return true;
    }
    return false;
}

bool ph_quic_endpoint_is_blocked(const struct ph_quic_endpoint *ep, const void *sock)
{
    return is_held(ep, sock);
}

static void hold(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                 const uint8_t *data, size_t n, size_t segment)
{
    struct ph_quic_held *held = ph_alloc(sizeof(*held));
    *held = (struct ph_quic_held){.path = *path, .ecn = ecn, .n = n, .segment = segment};
    held->data = ph_alloc(n);
    memcpy(held->data, data, n);
    ph_list_append(&ep->held, &held->link);
}

/* Bytes that are off our hands: an error of the destination or the interface is a lost packet. */
static size_t send_now(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                       const uint8_t *data, size_t n, size_t segment)
{
    ssize_t sent = ep->out.send(ep->out.self, path, ecn, data, n, segment);
    return sent < 0 || (size_t)sent > n ? n : (size_t)sent;
}

bool ph_quic_send(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                  const uint8_t *data, size_t n, size_t segment)
{
    size_t sent = is_held(ep, path->sock) ? 0 : send_now(ep, path, ecn, data, n, segment);
    if (sent == n)
        return true;
    hold(ep, path, ecn, data + sent, n - sent, segment);
    return false;
}

void ph_quic_send_once(struct ph_quic_endpoint *ep, const struct ph_path *path, const uint8_t *data,
                       size_t n)
{
    if (!is_held(ep, path->sock))
        send_now(ep, path, 0, data, n, n);
}

void ph_quic_endpoint_writable(struct ph_quic_endpoint *ep, const void *sock)
{
    struct ph_link *link = ep->held.next;
    while (link != &ep->held) {
        struct ph_quic_held *held = PH_CONTAINER(link, struct ph_quic_held, link);
        link = link->next;
        if (held->path.sock != sock)
            continue;
        size_t sent = send_now(ep, &held->path, held->ecn, held->data, held->n, held->segment);
        if (sent < held->n) {
            memmove(held->data, held->data + sent, held->n - sent);
            held->n -= sent;
            return;
        }
        ph_list_remove(&held->link);
        ph_free(held->data);
        ph_free(held);
    }
}

/* --- Frames into one packet --- */

static struct ph_quic_stream *first_ready(const struct ph_quic_conn *conn, unsigned mask)
{
    unsigned ready = conn->ready_mask & mask;
    if (ready == 0)
        return NULL;
    const struct ph_link *head = &conn->ready_streams[__builtin_ctz(ready)];
    return PH_CONTAINER(head->next, struct ph_quic_stream, ready);
}

/* A stream that only its end is missing of. It must not wait for the connection's window: the peer
 * may be waiting for this end before it reads what filled the window. */
static struct ph_quic_stream *first_ending(const struct ph_quic_conn *conn, unsigned mask)
{
    for (unsigned ready = conn->ready_mask & mask; ready != 0; ready &= ready - 1) {
        const struct ph_link *head = &conn->ready_streams[__builtin_ctz(ready)];
        for (const struct ph_link *l = head->next; l != head; l = l->next) {
            struct ph_quic_stream *stream = PH_CONTAINER(l, struct ph_quic_stream, ready);
            if (stream->sendq.unsent == 0)
                return stream;
        }
    }
    return NULL;
}

static struct ph_quic_stream *next_stream(const struct writer *w, unsigned mask)
{
    if (w->streams_done)
        return NULL;
    return w->window == 0 ? first_ending(w->conn, mask) : first_ready(w->conn, mask);
}

/* `n` bytes of the stream, and its end if `fin`, are in the packet. */
static void stream_sent(struct ph_quic_stream *stream, size_t n, bool fin)
{
    ph_sliceq_advance(&stream->sendq, n);
    stream->fin_sent = stream->fin_sent || fin;
    if (stream->sendq.unsent == 0) {
        ph_quic_stream_disarm(stream);
    } else if (stream->incremental) { /* others of the same urgency go first next time */
        struct ph_link *head = &stream->conn->ready_streams[stream->urgency];
        ph_list_remove(&stream->ready);
        ph_list_append(head, &stream->ready);
    }
}

static size_t gather(const struct ph_quic_stream *stream, ngtcp2_vec *vec, size_t *count,
                     size_t max)
{
    struct iovec iov[PH_QUIC_GATHER];
    size_t total = 0;
    *count = ph_sliceq_gather(&stream->sendq, iov, PH_QUIC_GATHER, max);
    for (size_t i = 0; i < *count; i++) {
        vec[i] = (ngtcp2_vec){.base = iov[i].iov_base, .len = iov[i].iov_len};
        total += iov[i].iov_len;
    }
    return total;
}

/* A stream that the library refused to write. */
static void stream_refused(struct ph_quic_stream *stream, ngtcp2_ssize rv)
{
    if (rv == NGTCP2_ERR_STREAM_DATA_BLOCKED)
        stream->blocked = true; /* until MAX_STREAM_DATA */
    else if (rv == NGTCP2_ERR_STREAM_SHUT_WR)
        ph_quic_stream_peer_stop(stream, 0); /* the code went by unseen */
    ph_quic_stream_disarm(stream);
}

static bool is_refusal(ngtcp2_ssize rv)
{
    return rv == NGTCP2_ERR_STREAM_DATA_BLOCKED || rv == NGTCP2_ERR_STREAM_SHUT_WR ||
           rv == NGTCP2_ERR_STREAM_NOT_FOUND;
}

static ngtcp2_ssize write_stream(struct writer *w, struct ph_quic_stream *stream, uint32_t flags)
{
    ngtcp2_vec vec[PH_QUIC_GATHER];
    size_t count = 0;
    size_t total = gather(stream, vec, &count, w->cap);
    bool fin = stream->fin && !stream->reset && total == stream->sendq.unsent;
    ngtcp2_ssize taken = -1;
    if (fin)
        flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
    ngtcp2_ssize rv = ngtcp2_conn_writev_stream(w->conn->qc, &w->ps.path, &w->pi, w->dest, w->cap,
                                                &taken, flags, stream->id, vec, count, w->now);
    if (taken >= 0) {
        stream_sent(stream, (size_t)taken, fin && (size_t)taken == total);
        w->window -= PH_MIN(w->window, (uint64_t)taken);
        w->streams_done = taken == 0 && total > 0; /* no room for data: do not ask again */
    }
    return rv;
}

/* NGTCP2_ERR_WRITE_MORE: the packet has room; otherwise the result of the packet. */
static ngtcp2_ssize write_streams(struct writer *w, unsigned mask)
{
    struct ph_quic_stream *stream;
    while ((stream = next_stream(w, mask)) != NULL) {
        ngtcp2_ssize rv = write_stream(w, stream, NGTCP2_WRITE_STREAM_FLAG_MORE);
        if (is_refusal(rv))
            stream_refused(stream, rv);
        else if (rv != NGTCP2_ERR_WRITE_MORE)
            return rv;
    }
    return NGTCP2_ERR_WRITE_MORE;
}

static ngtcp2_ssize write_datagrams(struct writer *w)
{
    struct ph_quic_conn *conn = w->conn;
    struct ph_quic_dgramq *q;
    while ((q = ph_quic_dgramq_first(conn, w->max_datagram, w->now)) != NULL) {
        struct ph_buf *buf = q->ring[q->head].buf;
        ngtcp2_vec vec[2];
        size_t count = 0;
        int accepted = 0;
        /* Empty parts are left out: ngtcp2 1.11 asserts that there are none. */
        if (q->prefix_len > 0)
            vec[count++] = (ngtcp2_vec){.base = q->prefix, .len = q->prefix_len};
        if (buf->len > 0)
            vec[count++] = (ngtcp2_vec){.base = buf->data, .len = buf->len};
        ngtcp2_ssize rv = ngtcp2_conn_writev_datagram(
            conn->qc, &w->ps.path, &w->pi, w->dest, w->cap, &accepted,
            NGTCP2_WRITE_DATAGRAM_FLAG_MORE, conn->next_dgram_id, vec, count, w->now);
        if (accepted) {
            conn->next_dgram_id++;
            ph_quic_dgramq_sent(q);
        }
        if (rv != NGTCP2_ERR_WRITE_MORE)
            return rv;
    }
    return NGTCP2_ERR_WRITE_MORE;
}

/* Ends the packet with what the library itself has to say. A stream that waits for the connection's
 * window is named, so that the library may tell the peer (DATA_BLOCKED, RFC 9000 4.1). */
static ngtcp2_ssize finish_packet(struct writer *w)
{
    struct ph_quic_stream *stream =
        w->window == 0 && !w->streams_done ? first_ready(w->conn, UINT_MAX) : NULL;
    if (stream != NULL) {
        ngtcp2_ssize rv = write_stream(w, stream, NGTCP2_WRITE_STREAM_FLAG_NONE);
        if (!is_refusal(rv))
            return rv;
        stream_refused(stream, rv);
    }
    return ngtcp2_conn_writev_stream(w->conn->qc, &w->ps.path, &w->pi, w->dest, w->cap, NULL,
                                     NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0, w->now);
}

/* One packet. Its length, 0 when nothing is to be or may be sent, or a library error. The library
 * answers 0 to stream data without connection window, as it does when the congestion window is
 * full: such data is not offered, or it would hold up datagrams. */
static ngtcp2_ssize write_packet(struct writer *w)
{
    static const unsigned before = (1u << (PH_QUIC_BEFORE_DATAGRAMS + 1)) - 1;
    ngtcp2_path_storage_zero(&w->ps);
    w->pi = (ngtcp2_pkt_info){0};
    w->streams_done = false;
    w->window = ngtcp2_conn_get_max_data_left(w->conn->qc);
    w->max_datagram = ph_quic_conn_max_datagram(w->conn);
    ngtcp2_ssize rv = write_streams(w, before);
    if (rv == NGTCP2_ERR_WRITE_MORE)
        rv = write_datagrams(w);
    if (rv == NGTCP2_ERR_WRITE_MORE)
        rv = write_streams(w, ~before);
    return rv == NGTCP2_ERR_WRITE_MORE ? finish_packet(w) : rv;
}

/* --- Packets into batches --- */

static bool batch_send(struct ph_quic_endpoint *ep, struct batch *batch)
{
    bool ok = batch->len == 0 ||
              ph_quic_send(ep, &batch->path, batch->ecn, ep->batch, batch->len, batch->segment);
    batch->len = 0;
    batch->count = 0;
    return ok;
}

/* Adds the packet of `n` bytes that was written behind the batch. false: the socket is full. */
static bool batch_add(struct ph_quic_endpoint *ep, struct batch *batch, const struct writer *w,
                      size_t n)
{
    struct ph_path path;
    bool ok = true;
    ph_quic_path_in(&path, &w->ps.path);
    if (batch->len > 0 &&
        (n > batch->segment || w->pi.ecn != batch->ecn || path.sock != batch->path.sock ||
         !ph_addr_equal(&path.remote, &batch->path.remote) ||
         !ph_addr_equal(&path.local, &batch->path.local))) {
        ok = batch_send(ep, batch);
        memmove(ep->batch, w->dest, n);
    }
    if (batch->len == 0) {
        batch->path = path;
        batch->ecn = (uint8_t)w->pi.ecn;
        batch->segment = n;
    }
    batch->len += n;
    batch->count++;
    if (n < batch->segment || batch->count == PH_QUIC_MAX_BATCH ||
        batch->len + w->cap > PH_QUIC_MAX_BATCH_BYTES)
        ok = batch_send(ep, batch) && ok;
    return ok;
}

static bool write_burst(struct ph_quic_conn *conn, uint64_t now)
{
    struct ph_quic_endpoint *ep = conn->ep;
    struct batch batch = {.len = 0};
    struct writer w = {.conn = conn, .now = now};
    size_t quantum = ngtcp2_conn_get_send_quantum(conn->qc);
    size_t total = 0;
    bool ok = true;
    w.cap = ngtcp2_conn_get_max_tx_udp_payload_size(conn->qc);
    while (ok && (total == 0 || total < quantum)) {
        w.dest = ep->batch + batch.len;
        ngtcp2_ssize n = write_packet(&w);
        if (n < 0) {
            ph_quic_conn_fail(conn, (int)n);
            break;
        }
        if (n == 0)
            break;
        total += (size_t)n;
        ok = batch_add(ep, &batch, &w, (size_t)n);
    }
    ok = batch_send(ep, &batch) && ok;
    ngtcp2_conn_update_pkt_tx_time(conn->qc, now);
    return ok;
}

static void send_close(struct ph_quic_conn *conn)
{
    conn->close_due = false;
    ph_quic_send_once(conn->ep, &conn->path, conn->close_packet, conn->close_len);
}

bool ph_quic_conn_flush(struct ph_quic_conn *conn, uint64_t now)
{
    bool ok = true;
    ph_quic_conn_settle(conn);
    if (conn->state == PH_QUIC_LIVE) {
        if (is_held(conn->ep, conn->path.sock))
            return false;
        ok = write_burst(conn, now);
        ph_quic_dgramqs_report(conn);
        ph_quic_conn_settle(conn);
    }
    if (conn->state == PH_QUIC_ENDED)
        ph_quic_conn_begin_closing(conn);
    if (conn->state == PH_QUIC_CLOSING && conn->close_due)
        send_close(conn);
    if (conn->state == PH_QUIC_LIVE && ok)
        ph_quic_conn_rearm(conn);
    return ok || conn->state != PH_QUIC_LIVE;
}
