/*
 * fuzz_chan.c - a script of what engines and applications do to channels, without sockets: every
 * order of announcement, data, ends, commands, releases and full rings.
 *
 * Input: the first byte gives the ring's size (8 to 64); then two bytes an operation: what, and a
 * number that chooses the channel and the amount. The application checks what it is promised: an
 * announcement first, bytes in order and none lost before their end, CLOSED once and last, a
 * session's after its streams', nothing after release; at the end nothing is left alive.
 */
#include "../unit/chan_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRIES = 24 };

struct entry {
    struct ph_chan *chan;
    struct entry *parent;
    ph_chan_kind kind;
    /* engine */
    bool attached, ended, fin, reset, stopped;
    size_t fed;
    /* application */
    bool known, released, closed, got_end, refused; /* refused: it wants no more data */
    size_t got;
};

struct script {
    struct rig rig;
    struct entry entries[ENTRIES];
    size_t n;
    bool stopped;
};

static uint8_t byte_at(const struct entry *entry, size_t at)
{
    return (uint8_t)(at * 31 + (size_t)entry->kind);
}

/* --- Application --- */

static void check_data(struct entry *entry, const struct ph_event *event)
{
    PH_ASSERT(entry->known && !entry->got_end && !entry->refused);
    for (size_t i = 0; i < event->len; i++)
        PH_ASSERT(event->data[i] == byte_at(entry, entry->got + i));
    entry->got += event->len;
    PH_ASSERT(entry->got <= entry->fed);
    entry->got_end = event->fin;
    PH_ASSERT(!event->fin || entry->got == entry->fed);
}

static void check_closed(struct script *script, struct entry *entry)
{
    for (size_t i = 0; i < script->n; i++) {
        struct entry *child = &script->entries[i];
        PH_ASSERT(child->parent != entry || !child->known || child->closed || child->released);
    }
    /* What arrived before the end was handed out. */
    PH_ASSERT(entry->kind == PH_CHAN_WT_SESSION || entry->reset || entry->refused ||
              entry->got == entry->fed);
    entry->closed = true;
}

static struct entry *find(struct script *script, const struct ph_chan *chan)
{
    for (size_t i = script->n; i > 0; i--) {
        struct entry *entry = &script->entries[i - 1];
        if (entry->chan == chan && !entry->released)
            return entry;
    }
    abort();
}

static bool take_event(struct script *script)
{
    struct ph_event event;
    if (ph_pipe_next_event(&script->rig.pipe, &event) == 0)
        return false;
    PH_ASSERT(!script->stopped);
    if (event.kind == PH_EVENT_STOPPED) {
        script->stopped = true;
        return true;
    }
    struct entry *entry = find(script, event.chan);
    PH_ASSERT(!entry->closed && !entry->released);
    switch (event.kind) {
    case PH_EVENT_REQUEST:
    case PH_EVENT_SESSION:
    case PH_EVENT_STREAM:
        PH_ASSERT(!entry->known);
        PH_ASSERT(event.parent == (entry->parent != NULL ? entry->parent->chan : NULL));
        entry->known = true;
        break;
    case PH_EVENT_DATA:
        check_data(entry, &event);
        break;
    case PH_EVENT_RESET:
        PH_ASSERT(entry->reset && !entry->got_end && !entry->refused);
        entry->got_end = true;
        break;
    case PH_EVENT_CLOSED:
        check_closed(script, entry);
        break;
    case PH_EVENT_STOP_SENDING:
        PH_ASSERT(entry->stopped);
        break;
    case PH_EVENT_OPENED:
    case PH_EVENT_DATAGRAM:
    case PH_EVENT_TRAILERS:
    case PH_EVENT_DRAIN:
    case PH_EVENT_WRITABLE:
    case PH_EVENT_LOG:
    case PH_EVENT_STOPPED:
    case PH_EVENT_SOCKET:
    case PH_EVENT_MESSAGE:
        PH_ASSERT(entry->known);
        break;
    }
    ph_buf_unref(event.buf);
    return true;
}

static void app_release(struct script *script, struct entry *entry)
{
    (void)script;
    ph_chan_release(entry->chan);
    entry->released = true;
}

static void app_write(struct entry *entry, size_t n, bool fin)
{
    struct ph_buf *buf = ph_buf_new(n);
    ph_buf_set_len(buf, n);
    ph_chan_write(entry->chan, buf, fin);
}

static void app_open(struct script *script, struct entry *session, uint8_t number)
{
    if (script->n == ENTRIES)
        return;
    struct ph_chan *chan = ph_chan_open_stream(session->chan, (number & 32) != 0);
    if (chan == NULL)
        return;
    struct entry *entry = &script->entries[script->n++];
    *entry =
        (struct entry){.chan = chan, .parent = session, .kind = PH_CHAN_WT_STREAM, .known = true};
}

static void app_op(struct script *script, uint8_t op, uint8_t number)
{
    struct entry *entry = &script->entries[number % PH_MAX(script->n, (size_t)1)];
    size_t amount = (size_t)(number + 1) * 17;
    if (entry->chan == NULL || !entry->known || entry->released)
        return;
    bool is_session = entry->kind == PH_CHAN_WT_SESSION;
    switch (op % 12) {
    case 0:
        ph_chan_respond(entry->chan, is_session ? 403 : 200, NULL, 0, (number & 64) != 0);
        break;
    case 1:
        app_write(entry, amount, false);
        break;
    case 2:
        app_write(entry, amount, true);
        break;
    case 3:
        ph_chan_consume(entry->chan, amount % (entry->got + 1));
        break;
    case 4:
        ph_chan_reset(entry->chan, number);
        break;
    case 5:
        entry->refused |= ph_chan_stop_sending(entry->chan, number) == 0;
        break;
    case 6:
        app_release(script, entry);
        break;
    case 7:
        if (is_session)
            app_open(script, entry, number);
        break;
    case 8:
        if (is_session)
            ph_chan_accept(entry->chan, NULL, 0, NULL);
        break;
    case 9:
        if (is_session)
            ph_chan_close(entry->chan, number, "end", number % 4);
        break;
    case 10:
        if (is_session)
            ph_chan_send_datagram(entry->chan, ph_buf_copy("datagram", 8), number);
        break;
    default:
        ph_chan_wait_writable(entry->chan);
        if (is_session)
            ph_chan_wait_datagram_room(entry->chan);
        ph_chan_consume_datagrams(entry->chan, number % 4);
        break;
    }
}

/* --- Engine --- */

static void engine_new(struct script *script, uint8_t number)
{
    if (script->n == ENTRIES)
        return;
    ph_chan_kind kind = (ph_chan_kind)(number % 3);
    struct entry *parent = NULL;
    for (size_t i = 0; i < script->n && kind == PH_CHAN_WT_STREAM; i++) {
        struct entry *one = &script->entries[(i + number) % script->n];
        if (one->kind == PH_CHAN_WT_SESSION && !one->ended)
            parent = one;
    }
    if (kind == PH_CHAN_WT_STREAM && parent == NULL)
        kind = PH_CHAN_HTTP;
    struct entry *entry = &script->entries[script->n++];
    *entry = (struct entry){.parent = parent, .kind = kind, .attached = true};
    entry->chan = rig_chan(&script->rig, kind, parent != NULL ? parent->chan : NULL);
}

static void engine_feed(struct entry *entry, size_t n)
{
    uint8_t bytes[4096];
    n = PH_MIN(n, sizeof(bytes));
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(entry, entry->fed + i);
    if (entry->fin || entry->reset || entry->kind == PH_CHAN_WT_SESSION)
        return;
    entry->fed += n;
    ph_chan_io_data(entry->chan, bytes, n);
}

/* As WebTransport does: first the streams, then the session. */
static void engine_end(struct script *script, struct entry *entry, bool clean)
{
    for (size_t i = 0; i < script->n; i++) {
        struct entry *child = &script->entries[i];
        if (child->parent == entry && child->attached && !child->ended) {
            child->ended = true;
            rig_end(child->chan, false, 0);
        }
    }
    entry->ended = true;
    rig_end(entry->chan, clean, 3);
}

static void engine_op(struct script *script, uint8_t op, uint8_t number)
{
    struct entry *entry = &script->entries[number % PH_MAX(script->n, (size_t)1)];
    if (op % 9 == 0) {
        engine_new(script, number);
        return;
    }
    if (entry->chan == NULL || !entry->attached || entry->ended)
        return;
    bool is_stream = entry->kind == PH_CHAN_WT_STREAM;
    switch (op % 9) {
    case 1:
        engine_feed(entry, (size_t)number * 23);
        break;
    case 2:
        if (!entry->fin && !entry->reset && entry->kind != PH_CHAN_WT_SESSION) {
            entry->fin = true;
            ph_chan_io_fin(entry->chan);
        }
        break;
    case 3:
        if (is_stream && !entry->fin && !entry->reset) {
            entry->reset = true;
            ph_chan_io_reset(entry->chan, (number & 1) != 0, number);
        }
        break;
    case 4:
        if (is_stream) {
            entry->stopped = true;
            ph_chan_io_stop(entry->chan, true, number);
        }
        break;
    case 5:
        rig_ack(entry->chan, (size_t)number * 40);
        break;
    case 6:
        engine_end(script, entry, (number & 1) != 0);
        break;
    case 7:
        if (entry->kind == PH_CHAN_WT_SESSION)
            ph_chan_io_datagram(entry->chan, &number, 1);
        break;
    default:
        if (entry->kind == PH_CHAN_WT_SESSION) {
            ph_chan_io_datagrams_left(entry->chan, number % 4);
            ph_chan_io_drain(entry->chan, (number & 1) != 0);
        }
        break;
    }
}

/* Streams that the application opened have their engine after a turn. */
static void notice_opened(struct script *script)
{
    struct ph_link *chans = &script->rig.pipe.io.chans;
    for (struct ph_link *link = chans->next; link != chans; link = link->next) {
        struct ph_chan *chan = PH_CONTAINER(link, struct ph_chan, io.all);
        for (size_t i = script->n; i > 0; i--) {
            struct entry *entry = &script->entries[i - 1];
            if (entry->chan != chan || entry->ended)
                continue;
            entry->attached = true;
            entry->ended = chan->io.engine.any == NULL;
            break;
        }
    }
}

static void run(struct script *script, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint8_t op = data[i], number = data[i + 1];
        switch (op & 3) {
        case 0:
            engine_op(script, op >> 2, number);
            break;
        case 1:
            app_op(script, op >> 2, number);
            break;
        case 2:
            script->rig.pipe.io.now += (uint64_t)(op >> 2) * PH_MSEC;
            rig_io(&script->rig);
            notice_opened(script);
            break;
        default:
            if ((op & 4) != 0)
                ph_pipe_flush(&script->rig.pipe);
            for (int k = number % 32; k >= 0 && take_event(script); k--)
                continue;
            break;
        }
    }
}

/* Everything ends: the application sees all of it, and what it held counts for nothing then. */
static void finish(struct script *script)
{
    struct rig *rig = &script->rig;
    for (int quiet = 0; quiet < 2;) { /* twice nothing: no command is on its way either */
        ph_pipe_flush(&rig->pipe);
        rig_io(rig);
        notice_opened(script);
        for (size_t i = 0; i < script->n; i++) {
            struct entry *entry = &script->entries[i];
            if (entry->attached && !entry->ended && entry->kind != PH_CHAN_WT_STREAM)
                engine_end(script, entry, false);
        }
        bool busy = take_event(script) || rig->pipe.io.open > 0;
        quiet = busy || rig->pipe.app.overflow_count > 0 ? 0 : quiet + 1;
    }
    for (size_t i = 0; i < script->n; i++) {
        struct entry *entry = &script->entries[i];
        if (entry->released || (!entry->known && entry->parent != NULL && entry->parent->released))
            continue; /* streams of a session that was given up were not announced */
        PH_ASSERT(entry->closed);
        PH_ASSERT(ph_chan_queued(entry->chan) == 0);
        app_release(script, entry);
    }
    rig_fini(rig);
    PH_ASSERT(ph_live_get(PH_LIVE_CHAN) == 0);
    PH_ASSERT(ph_live_get(PH_LIVE_BUF) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    struct script *script = ph_alloc(sizeof(*script));
    rig_init(&script->rig, 8u << (data[0] & 3));
    run(script, data + 1, size - 1);
    finish(script);
    ph_free(script);
    return 0;
}
