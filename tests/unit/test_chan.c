/* test_chan.c - life-cycle, credit, backpressure and order of channels, without sockets. */
#include "chan_rig.h"
#include "test.h"

/* The next event; fails when there is none. The caller drops event.buf. */
static struct ph_event next(struct rig *rig)
{
    struct ph_event event;
    rig_io(rig);
    CHECK(ph_pipe_next_event(&rig->pipe, &event) == 1);
    return event;
}

static void expect(struct rig *rig, ph_event_kind kind, const struct ph_chan *chan)
{
    struct ph_event event = next(rig);
    CHECK_INT(event.kind, ==, kind);
    CHECK(event.chan == chan);
    ph_buf_unref(event.buf);
}

static void expect_none(struct rig *rig)
{
    struct ph_event event;
    ph_pipe_flush(&rig->pipe);
    rig_io(rig);
    CHECK_INT(ph_pipe_next_event(&rig->pipe, &event), ==, 0);
}

static void turn(struct rig *rig)
{
    ph_pipe_flush(&rig->pipe);
    rig_io(rig);
}

static void feed(struct ph_chan *chan, char letter, size_t n)
{
    uint8_t bytes[2048];
    memset(bytes, letter, sizeof(bytes));
    for (size_t k; n > 0; n -= k) {
        k = PH_MIN(n, sizeof(bytes));
        ph_chan_io_data(chan, bytes, k);
    }
}

static void write_bytes(struct ph_chan *chan, size_t n, bool fin)
{
    struct ph_buf *buf = ph_buf_new(n);
    memset(ph_buf_data(buf), 'w', n);
    ph_buf_set_len(buf, n);
    CHECK_INT(ph_chan_write(chan, buf, fin), ==, 0);
}

TEST(chan, request_from_announcement_to_closed)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    feed(chan, 'a', 100);
    feed(chan, 'a', 50);
    ph_chan_io_fin(chan);
    expect(&rig, PH_EVENT_REQUEST, chan);
    CHECK(ph_chan_request(chan)->has_body);
    CHECK_STR(ph_chan_request(chan)->client_host, "127.0.0.1");
    CHECK_INT(ph_chan_request(chan)->client_port, ==, 50000);
    struct ph_event event = next(&rig);
    CHECK_INT(event.kind, ==, PH_EVENT_DATA);
    CHECK_INT(event.len, ==, 150);
    CHECK(event.fin);
    ph_buf_unref(event.buf);

    CHECK_INT(ph_chan_write(chan, NULL, true), ==, PH_E_STATE);
    struct ph_field field = {"Content-Type", "text/plain", 12, 10};
    CHECK_INT(ph_chan_respond(chan, 200, &field, 1, false), ==, 0);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, PH_E_STATE);
    write_bytes(chan, 500, true);
    CHECK_INT(ph_chan_write(chan, ph_buf_copy("x", 1), false), ==, PH_E_STATE);
    CHECK_INT(ph_chan_queued(chan), ==, 500);
    expect_none(&rig);
    CHECK_INT(rig_engine_of(chan)->code, ==, 200);
    CHECK(rig_engine_of(chan)->fin);
    rig_ack(chan, 500);
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    rig_end(chan, true, 0);
    event = next(&rig);
    CHECK_INT(event.kind, ==, PH_EVENT_CLOSED);
    CHECK(event.clean);
    CHECK_INT(ph_chan_write(chan, ph_buf_copy("x", 1), false), ==, PH_E_CLOSED);
    ph_chan_release(chan);
    turn(&rig);
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 0);
    rig_fini(&rig);
}

TEST(chan, request_without_body_says_so)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    ph_chan_io_fin(chan);
    expect(&rig, PH_EVENT_REQUEST, chan);
    CHECK(!ph_chan_request(chan)->has_body);
    struct ph_event event = next(&rig);
    CHECK(event.kind == PH_EVENT_DATA && event.fin && event.len == 0 && event.buf == NULL);
    rig_fini(&rig);
}

TEST(chan, trailers_come_between_the_body_and_its_end)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    struct ph_field fields[] = {{"a", "1", 1, 1}, {"b", "", 1, 0}};
    feed(chan, 'a', 10);
    ph_chan_io_trailers(chan, fields, 2);
    ph_chan_io_fin(chan);
    expect(&rig, PH_EVENT_REQUEST, chan);
    struct ph_event event = next(&rig);
    CHECK(event.kind == PH_EVENT_DATA && !event.fin);
    ph_buf_unref(event.buf);
    event = next(&rig);
    CHECK_INT(event.kind, ==, PH_EVENT_TRAILERS);
    CHECK_INT(event.fields_len, ==, 2);
    CHECK_STR(event.fields[0].name, "a");
    CHECK_STR(event.fields[0].value, "1");
    CHECK_STR(event.fields[1].value, "");
    ph_buf_unref(event.buf);
    event = next(&rig);
    CHECK(event.kind == PH_EVENT_DATA && event.fin && event.len == 0);
    rig_fini(&rig);
}

TEST(chan, released_before_its_end_hears_no_more_and_is_freed_at_the_end)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    feed(chan, 'a', 300);
    rig_io(&rig); /* DATA is in the ring when the application lets go */
    ph_chan_release(chan);
    expect_none(&rig);
    CHECK_INT(rig_engine_of(chan)->releases, ==, 1);
    CHECK_INT(rig_engine_of(chan)->credit, ==, 300);
    feed(chan, 'a', 50); /* still arriving: goes back at once */
    CHECK_INT(rig_engine_of(chan)->credit, ==, 350);
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 1);
    rig_end(chan, false, 7);
    expect_none(&rig);
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 0);
    rig_fini(&rig);
}

TEST(chan, release_that_crosses_closed_frees_it)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    rig_end(chan, false, 0);
    rig_io(&rig); /* CLOSED is in the up ring */
    ph_chan_release(chan);
    expect_none(&rig);
    expect_none(&rig);
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 0);
    CHECK_INT(rig.engines->delivered, ==, 1);
    rig_fini(&rig);
}

TEST(chan, full_up_ring_loses_nothing_and_keeps_order)
{
    struct rig rig;
    enum { CHANS = 40 };
    struct ph_chan *chans[CHANS];
    size_t got[CHANS] = {0};
    bool closed[CHANS] = {false}, announced[CHANS] = {false}, fin[CHANS] = {false};
    rig_init(&rig, 8);
    for (int i = 0; i < CHANS; i++) {
        chans[i] = rig_chan(&rig, PH_CHAN_HTTP, NULL);
        feed(chans[i], (char)('a' + i % 26), 700);
        rig_io(&rig);
        feed(chans[i], (char)('a' + i % 26), 700);
        ph_chan_io_fin(chans[i]);
        rig_end(chans[i], true, 0);
    }
    struct ph_event event;
    for (;;) {
        rig_io(&rig);
        if (ph_pipe_next_event(&rig.pipe, &event) == 0)
            break;
        int i = 0;
        while (chans[i] != event.chan)
            i++;
        CHECK(!closed[i]);
        if (event.kind == PH_EVENT_REQUEST) {
            announced[i] = true;
        } else if (event.kind == PH_EVENT_DATA) {
            CHECK(announced[i] && !fin[i]);
            for (size_t k = 0; k < event.len; k++)
                CHECK(event.data[k] == 'a' + i % 26);
            got[i] += event.len;
            fin[i] = event.fin;
        } else {
            CHECK_INT(event.kind, ==, PH_EVENT_CLOSED);
            closed[i] = true;
        }
        ph_buf_unref(event.buf);
    }
    for (int i = 0; i < CHANS; i++) {
        CHECK_INT(got[i], ==, 1400);
        CHECK(closed[i] && fin[i]);
    }
    rig_fini(&rig);
}

TEST(chan, consumer_that_made_room_rings_the_blocked_producer)
{
    struct rig rig;
    rig_init(&rig, 8);
    for (int i = 0; i < 12; i++)
        rig_chan(&rig, PH_CHAN_HTTP, NULL);
    struct ph_event event;
    rig_io(&rig);
    CHECK(atomic_load(&rig.pipe.up_starved) == 1);
    CHECK(ph_ring_sleep(&rig.pipe.down));
    int n = 0;
    while (ph_pipe_next_event(&rig.pipe, &event) == 1)
        n++;
    CHECK_INT(n, ==, 8);
    CHECK(atomic_load(&rig.pipe.up_starved) == 0);
    CHECK(atomic_load(&rig.pipe.down.sleeping) == 0); /* it was woken */
    ph_ring_awake(&rig.pipe.down);
    rig_io(&rig);
    while (ph_pipe_next_event(&rig.pipe, &event) == 1)
        n++;
    CHECK_INT(n, ==, 12);
    rig_fini(&rig);
}

TEST(chan, bytes_that_wait_are_joined_into_large_blocks)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    for (int i = 0; i < 2000; i++)
        feed(chan, 'a', 100);
    expect(&rig, PH_EVENT_REQUEST, chan);
    size_t total = 0;
    int events = 0;
    struct ph_event event;
    while (ph_pipe_next_event(&rig.pipe, &event) == 1) {
        total += event.len;
        events++;
        ph_buf_unref(event.buf);
    }
    CHECK_INT(total, ==, 200000);
    CHECK_INT(events, <=, 10);
    CHECK_INT(rig.stats.copied, ==, 200000);
    CHECK_INT(rig.stats.copied, <=, rig.stats.bytes_in);
    rig_fini(&rig);
}

TEST(chan, credit_goes_back_only_for_what_was_consumed)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    feed(chan, 'a', 1000);
    expect(&rig, PH_EVENT_REQUEST, chan);
    expect(&rig, PH_EVENT_DATA, chan);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->credit, ==, 0);
    ph_chan_consume(chan, 300);
    ph_chan_consume(chan, 200);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->credit, ==, 500);
    CHECK_INT(rig_engine_of(chan)->asked, ==, 0);
    ph_chan_consume(chan, 0);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->asked, ==, 1);
    ph_chan_consume(chan, 9999); /* more than there was */
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->credit, ==, 1000);
    rig_fini(&rig);
}

TEST(chan, trickle_to_a_slow_reader_is_joined)
{
    struct rig rig;
    struct ph_event event;
    rig_init(&rig, 1024);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    int events = 0;
    for (int i = 0; i < 500; i++) { /* a byte a turn, nothing is consumed */
        feed(chan, 'a', 1);
        rig_io(&rig);
        while (ph_pipe_next_event(&rig.pipe, &event) == 1) {
            events++;
            ph_buf_unref(event.buf);
        }
    }
    CHECK_INT(events, ==, PH_BLOCKS_PUBLISHED);
    CHECK(ph_pipe_next_publish(&rig.pipe) != PH_NEVER);
    rig.pipe.io.now += PH_COALESCE_WAIT; /* but never kept for good */
    size_t joined = 0;
    rig_io(&rig);
    while (ph_pipe_next_event(&rig.pipe, &event) == 1) {
        CHECK_INT(event.len, >, 100);
        joined += event.len;
        ph_buf_unref(event.buf);
    }
    CHECK_INT(joined, ==, 500 - PH_BLOCKS_PUBLISHED);
    feed(chan, 'a', 1);
    expect_none(&rig);
    ph_chan_consume(chan, 10); /* room again */
    turn(&rig);
    expect(&rig, PH_EVENT_DATA, chan);
    feed(chan, 'b', 1);
    ph_chan_io_fin(chan); /* an end does not wait */
    event = next(&rig);
    CHECK(event.kind == PH_EVENT_DATA && event.fin);
    ph_buf_unref(event.buf);
    rig_fini(&rig);
}

TEST(chan, full_channel_is_told_when_it_is_writable)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 1);
    write_bytes(chan, 1000, false);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 0);
    expect_none(&rig);
    rig_ack(chan, 899); /* 101 are left: above low */
    expect_none(&rig);
    rig_ack(chan, 1);
    expect(&rig, PH_EVENT_WRITABLE, chan);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 1);
    expect_none(&rig); /* told once */
    rig_fini(&rig);
}

TEST(chan, responses_of_one_connection_share_its_room)
{
    static const struct {
        size_t conn, siblings, high;
    } cases[] = {
        {1 << 20, 1, 1 << 18},  {1 << 20, 4, 1 << 18}, {1 << 20, 5, 209715},
        {1 << 20, 128, 8192},   {1 << 20, 256, 4096},  {1 << 20, 257, 4096},
        {1 << 20, 10000, 4096}, {4096, 1, 4096},       {1 << 20, 0, 1 << 18},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct rig rig;
        rig_init(&rig, 64);
        rig.pipe.limits.high = 1 << 18;
        rig.pipe.limits.low = 1 << 16;
        rig.pipe.limits.conn_high = cases[i].conn;
        struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
        ph_chan_share(chan, cases[i].siblings);
        CHECK_INT(chan->high, ==, cases[i].high);
        CHECK_INT(chan->low, ==, cases[i].high / 4);
        expect(&rig, PH_EVENT_REQUEST, chan);
        CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
        write_bytes(chan, cases[i].high - 1, false);
        CHECK_INT(ph_chan_wait_writable(chan), ==, 1);
        write_bytes(chan, 1, false);
        CHECK_INT(ph_chan_wait_writable(chan), ==, 0);
        rig_fini(&rig);
    }
}

TEST(chan, writer_that_asks_after_the_last_byte_left_is_not_told_to_wait)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    write_bytes(chan, 2000, false);
    turn(&rig);
    rig_ack(chan, 2000);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 1);
    CHECK_INT(atomic_load(&chan->wait_write), ==, 0);
    rig_fini(&rig);
}

static struct ph_chan *accepted_session(struct rig *rig)
{
    struct ph_chan *session = rig_chan(rig, PH_CHAN_WT_SESSION, NULL);
    expect(rig, PH_EVENT_SESSION, session);
    CHECK(ph_chan_open_stream(session, true) == NULL);
    CHECK_INT(ph_chan_accept(session, NULL, 0, "chat"), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_accept(session, NULL, 0, NULL), ==, 0);
    CHECK_INT(ph_chan_accept(session, NULL, 0, NULL), ==, PH_E_STATE);
    turn(rig);
    CHECK_INT(rig_engine_of(session)->accepts, ==, 1);
    return session;
}

TEST(chan, session_that_is_full_is_told_on_its_own_channel)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig), *streams[4];
    for (int i = 0; i < 4; i++) {
        streams[i] = ph_chan_open_stream(session, true);
        CHECK(streams[i] != NULL);
        write_bytes(streams[i], 800, false);
    }
    for (int i = 0; i < 4; i++)
        ph_pipe_flush(&rig.pipe);
    for (int i = 0; i < 4; i++)
        expect(&rig, PH_EVENT_OPENED, streams[i]);
    CHECK_INT(ph_chan_queued(session), ==, 3200);
    CHECK_INT(ph_chan_wait_writable(streams[0]), ==, 0);
    for (int i = 0; i < 3; i++)
        rig_ack(streams[i], 800);
    expect_none(&rig); /* 800 are left */
    rig_ack(streams[3], 500);
    expect(&rig, PH_EVENT_WRITABLE, session);
    expect_none(&rig);
    rig_fini(&rig);
}

TEST(chan, closing_with_bytes_queued_wakes_the_writer_before_closed)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_chan *stream = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    expect(&rig, PH_EVENT_STREAM, stream);
    write_bytes(stream, 5000, false);
    turn(&rig);
    CHECK_INT(ph_chan_wait_writable(stream), ==, 0);
    rig_end(stream, false, 0);
    expect(&rig, PH_EVENT_WRITABLE, stream);
    expect(&rig, PH_EVENT_CLOSED, stream);
    CHECK_INT(ph_chan_queued(stream), ==, 0);
    CHECK_INT(ph_chan_queued(session), ==, 0);
    CHECK_INT(ph_chan_wait_writable(stream), ==, 1);
    rig_fini(&rig);
}

TEST(chan, stopped_stream_swallows_bytes_and_counts_them)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_chan *stream = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    expect(&rig, PH_EVENT_STREAM, stream);
    write_bytes(stream, 700, false);
    turn(&rig);
    ph_chan_io_stop(stream, true, 42);
    struct ph_event event = next(&rig);
    CHECK_INT(event.kind, ==, PH_EVENT_STOP_SENDING);
    CHECK(event.has_code && event.code == 42);
    CHECK_INT(ph_chan_queued(stream), ==, 0);
    write_bytes(stream, 600, false);
    turn(&rig);
    CHECK_INT(ph_chan_queued(stream), ==, 0);
    CHECK_INT(rig.stats.writes_discarded, ==, 600);
    rig_fini(&rig);
}

TEST(chan, reset_drops_what_was_not_delivered)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_chan *stream = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    expect(&rig, PH_EVENT_STREAM, stream);
    feed(stream, 'a', 500);
    ph_chan_io_reset(stream, false, 0);
    struct ph_event event = next(&rig);
    CHECK_INT(event.kind, ==, PH_EVENT_RESET);
    CHECK(!event.has_code);
    expect_none(&rig);
    CHECK_INT(rig_engine_of(stream)->credit, ==, 0); /* the transport's own business */
    rig_fini(&rig);
}

TEST(chan, stop_sending_ends_delivery_and_returns_credit)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_chan *stream = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    expect(&rig, PH_EVENT_STREAM, stream);
    feed(stream, 'a', 500);
    rig_io(&rig); /* in the ring */
    CHECK_INT(ph_chan_stop_sending(stream, 9), ==, 0);
    CHECK_INT(ph_chan_stop_sending(stream, 9), ==, 0);
    feed(stream, 'a', 100);
    expect_none(&rig);
    CHECK_INT(rig_engine_of(stream)->stops, ==, 1);
    CHECK_INT(rig_engine_of(stream)->code, ==, 9);
    CHECK_INT(rig_engine_of(stream)->credit, ==, 600);
    ph_chan_io_reset(stream, true, 1);
    expect_none(&rig);
    rig_end(stream, false, 0);
    expect(&rig, PH_EVENT_CLOSED, stream);
    rig_fini(&rig);
}

TEST(chan, streams_close_before_their_session)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_chan *a = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    struct ph_chan *b = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    ph_chan_io_drain(session, false); /* puts the session before its streams in the list */
    feed(b, 'b', 10);
    rig_end(a, false, 0);
    rig_end(b, false, 0);
    ph_chan_io_closed(session, true, false, 77, "bye", 3);
    expect(&rig, PH_EVENT_STREAM, a);
    expect(&rig, PH_EVENT_CLOSED, a);
    expect(&rig, PH_EVENT_STREAM, b);
    expect(&rig, PH_EVENT_DATA, b);
    expect(&rig, PH_EVENT_CLOSED, b);
    expect(&rig, PH_EVENT_DRAIN, session);
    struct ph_event event = next(&rig);
    CHECK_INT(event.kind, ==, PH_EVENT_CLOSED);
    CHECK(event.clean && event.code == 77 && event.len == 3);
    CHECK_MEM(event.data, "bye", 3);
    ph_buf_unref(event.buf);
    rig_fini(&rig);
}

TEST(chan, stream_opened_while_the_session_ends_still_closes_first)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    rig_end(session, false, 0);
    rig_io(&rig); /* the session's CLOSED is in the up ring */
    struct ph_chan *stream = ph_chan_open_stream(session, true);
    CHECK(stream != NULL);
    write_bytes(stream, 100, true);
    ph_pipe_flush(&rig.pipe);
    expect(&rig, PH_EVENT_CLOSED, stream);
    CHECK(ph_chan_open_stream(session, true) == NULL);
    expect(&rig, PH_EVENT_CLOSED, session);
    CHECK_INT(ph_chan_queued(session), ==, 0);
    CHECK_INT(rig.opened, ==, 0);
    ph_chan_release(session);
    ph_chan_release(stream);
    turn(&rig);
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 0);
    rig_fini(&rig);
}

TEST(chan, streams_of_a_released_session_are_not_announced)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    ph_chan_release(session);
    rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    expect_none(&rig);
    turn(&rig);
    CHECK_INT(rig.engines->releases, ==, 1); /* the newest engine is the stream's */
    rig_fini(&rig);
}

TEST(chan, inbound_datagrams_keep_the_newest)
{
    struct rig rig;
    rig_init(&rig, 1024);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_event event;
    for (uint32_t i = 0; i < 300; i++) {
        uint8_t bytes[4];
        ph_u32_put(bytes, i);
        ph_chan_io_datagram(session, bytes, 4);
    }
    CHECK_INT(rig.stats.datagrams_in_dropped, ==, 44);
    uint32_t want = 44, got = 0;
    for (int round = 0; round < 10; round++) {
        uint32_t before = got;
        rig_io(&rig);
        while (ph_pipe_next_event(&rig.pipe, &event) == 1) {
            CHECK_INT(event.kind, ==, PH_EVENT_DATAGRAM);
            CHECK_INT(ph_u32_get(event.data), ==, want);
            want++;
            got++;
            ph_buf_unref(event.buf);
        }
        CHECK_INT(got - before, <=, PH_DATAGRAMS_PUBLISHED);
        ph_chan_consume_datagrams(session, got - before);
        ph_pipe_flush(&rig.pipe);
    }
    CHECK_INT(got, ==, 256);
    rig_fini(&rig);
}

TEST(chan, inbound_datagrams_are_bounded_in_bytes)
{
    struct rig rig;
    uint8_t bytes[1200] = {0};
    rig_init(&rig, 1024);
    struct ph_chan *session = accepted_session(&rig);
    for (uint32_t i = 0; i < 100; i++)
        ph_chan_io_datagram(session, bytes, sizeof(bytes));
    CHECK_INT(rig.stats.datagrams_in_dropped, ==, 100 - 65536 / 1200);
    rig_fini(&rig);
}

TEST(chan, outbound_datagrams_wait_for_room)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(ph_chan_wait_datagram_room(session), ==, 1);
        CHECK_INT(ph_chan_send_datagram(session, ph_buf_copy("d", 1), 0), ==, 0);
    }
    CHECK_INT(ph_chan_wait_datagram_room(session), ==, 0);
    expect_none(&rig);
    CHECK_INT(rig_engine_of(session)->datagrams, ==, 8);
    ph_chan_io_datagrams_left(session, 3);
    expect_none(&rig);
    ph_chan_io_datagrams_left(session, 1);
    expect(&rig, PH_EVENT_WRITABLE, session);
    CHECK_INT(ph_chan_wait_datagram_room(session), ==, 1);
    rig_fini(&rig);
}

TEST(chan, full_down_ring_fails_no_command_and_keeps_order)
{
    struct rig rig;
    rig_init(&rig, 8);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    for (int i = 0; i < 1000; i++) {
        char text[12];
        snprintf(text, sizeof(text), "%04d", i);
        CHECK_INT(ph_chan_write(chan, ph_buf_copy(text, 4), i == 999), ==, 0);
    }
    ph_pipe_flush(&rig.pipe);
    CHECK(atomic_load(&rig.pipe.down_starved) == 1);
    for (int i = 0; i < 200 && !rig_engine_of(chan)->fin; i++) {
        expect_none(&rig);
        CHECK(rig.pipe.app.overflow_count == 0 || rig_engine_of(chan)->held.bytes > 0);
    }
    struct rig_engine *engine = rig_engine_of(chan);
    CHECK(engine->fin);
    CHECK_INT(engine->held.bytes, ==, 4000);
    struct iovec iov[1000];
    size_t n = ph_sliceq_gather(&engine->held, iov, 1000, 4000), at = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < iov[i].iov_len; k += 4, at++)
            CHECK_INT(atoi((char[5]){((char *)iov[i].iov_base)[k], ((char *)iov[i].iov_base)[k + 1],
                                     ((char *)iov[i].iov_base)[k + 2],
                                     ((char *)iov[i].iov_base)[k + 3], '\0'}),
                      ==, at);
    }
    CHECK_INT(at, ==, 1000);
    rig_fini(&rig);
}

static void note_release(void *ctx)
{
    (*(int *)ctx)++;
}

TEST(chan, wrapped_buffers_are_released_by_the_consumer_in_one_message)
{
    struct rig rig;
    int released = 0;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    for (int i = 0; i < 10; i++)
        CHECK_INT(ph_chan_write(chan, ph_buf_wrap("0123456789", 10, note_release, &released), 0),
                  ==, 0);
    turn(&rig);
    ph_thread_set(&rig.env);
    rig_ack(chan, 100);
    ph_thread_set(NULL);
    CHECK_INT(released, ==, 0);
    CHECK_INT(rig.pipe.io.home.count, ==, 10);
    rig_io(&rig);
    CHECK_INT(released, ==, 0);
    CHECK(rig.pipe.io.home.head == NULL);
    expect_none(&rig);
    CHECK_INT(released, ==, 10);
    rig_fini(&rig);
}

TEST(chan, commands_check_their_arguments)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    struct ph_chan *session = rig_chan(&rig, PH_CHAN_WT_SESSION, NULL);
    struct ph_chan *stream = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    expect(&rig, PH_EVENT_REQUEST, chan);
    expect(&rig, PH_EVENT_SESSION, session);
    expect(&rig, PH_EVENT_STREAM, stream);
    struct ph_field bad[] = {{"a b", "1", 3, 1},
                             {":status", "200", 7, 3},
                             {"x", "1\r\ny: 2", 1, 7},
                             {"Transfer-Encoding", "chunked", 17, 7}};
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_chan_respond(chan, 200, &bad[i], 1, true), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(chan, 99, NULL, 0, false), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(chan, 101, NULL, 0, false), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(chan, 103, NULL, 0, true), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(chan, 103, NULL, 0, false), ==, 0);
    CHECK_INT(ph_chan_respond(session, 200, NULL, 0, true), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(session, 600, NULL, 0, true), ==, PH_E_INVAL);
    struct ph_field wt = {"WT-Protocol", "\"a\"", 11, 3};
    CHECK_INT(ph_chan_accept(session, &wt, 1, NULL), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_write(session, NULL, true), ==, PH_E_STATE);
    CHECK_INT(ph_chan_close(session, 0, NULL, 0), ==, PH_E_STATE);
    CHECK_INT(ph_chan_send_datagram(session, ph_buf_copy("a", 1), 0), ==, PH_E_STATE);
    CHECK_INT(ph_chan_reset(stream, UINT64_C(1) << 32), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_set_priority(stream, 8), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_set_priority(chan, 1), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(session, 403, NULL, 0, true), ==, 0);
    CHECK_INT(ph_chan_accept(session, NULL, 0, NULL), ==, PH_E_STATE);
    rig_fini(&rig);
}

TEST(chan, one_way_streams_refuse_the_other_way)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    struct ph_chan *ours = ph_chan_open_stream(session, false);
    struct ph_chan *theirs = rig_chan(&rig, PH_CHAN_WT_STREAM, session);
    theirs->is_bidi = false;
    expect(&rig, PH_EVENT_STREAM, theirs);
    CHECK_INT(ph_chan_stop_sending(ours, 0), ==, PH_E_STATE);
    CHECK_INT(ph_chan_write(theirs, ph_buf_copy("a", 1), false), ==, PH_E_STATE);
    CHECK_INT(ph_chan_reset(theirs, 0), ==, PH_E_STATE);
    rig_fini(&rig);
}

TEST(chan, end_of_the_io_thread_closes_what_it_never_saw)
{
    struct rig rig;
    struct ph_event event;
    rig_init(&rig, 64);
    struct ph_chan *session = accepted_session(&rig);
    rig_end(session, false, 0);
    rig_io(&rig);
    ph_pipe_leave(&rig.pipe);
    struct ph_msg stopped = {.kind = PH_EVENT_STOPPED};
    CHECK(ph_pipe_push_up(&rig.pipe, &stopped));
    ph_pipe_ring_up(&rig.pipe);
    struct ph_chan *stream = ph_chan_open_stream(session, true); /* nobody reads this */
    CHECK(ph_pipe_next_event(&rig.pipe, &event) == 1);
    CHECK(event.kind == PH_EVENT_CLOSED && event.chan == stream);
    CHECK(ph_pipe_next_event(&rig.pipe, &event) == 1);
    CHECK(event.kind == PH_EVENT_CLOSED && event.chan == session);
    CHECK(ph_pipe_next_event(&rig.pipe, &event) == 1);
    CHECK_INT(event.kind, ==, PH_EVENT_STOPPED);
    CHECK_INT(ph_pipe_next_event(&rig.pipe, &event), ==, 0);
    ph_chan_release(session);
    while (rig.engines != NULL) {
        struct rig_engine *engine = rig.engines;
        rig.engines = engine->next;
        ph_sliceq_fini(&engine->held);
        ph_free(engine);
    }
    ph_pipe_fini(&rig.pipe); /* releases the stream */
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 0);
}

/* --- Bells --- */

TEST(chan, one_bell_wakes_the_application_however_much_is_said)
{
    struct rig rig;
    struct ph_event event;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    CHECK_INT(rig.stats.bells_up, ==, 0);
    for (int i = 0; i < 10; i++) { /* turns while the application sleeps */
        feed(chan, 'a', 100);
        rig_io(&rig);
    }
    CHECK_INT(rig.stats.bells_up, ==, 1);
    CHECK(ph_pipe_next_event(&rig.pipe, &event) == 1);
    ph_buf_unref(event.buf);
    feed(chan, 'b', 100);
    rig_io(&rig); /* it is awake: no bell */
    CHECK_INT(rig.stats.bells_up, ==, 1);
    while (ph_pipe_next_event(&rig.pipe, &event) == 1) /* asleep again */
        ph_buf_unref(event.buf);
    feed(chan, 'c', 100);
    rig_io(&rig);
    rig_io(&rig);
    CHECK_INT(rig.stats.bells_up, ==, 2);
    rig_fini(&rig);
}

TEST(chan, one_bell_wakes_the_io_thread_however_much_is_said)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    expect(&rig, PH_EVENT_REQUEST, chan);
    turn(&rig);
    uint64_t before = rig.stats.bells_down;
    ph_chan_respond(chan, 200, NULL, 0, false);
    ph_pipe_flush(&rig.pipe);
    CHECK_INT(rig.stats.bells_down, ==, before); /* it does not sleep */
    rig_io(&rig);
    CHECK(ph_ring_sleep(&rig.pipe.down));
    for (int i = 0; i < 5; i++) {
        write_bytes(chan, 10, false);
        ph_pipe_flush(&rig.pipe);
    }
    CHECK_INT(rig.stats.bells_down, ==, before + 1);
    ph_ring_awake(&rig.pipe.down);
    rig_io(&rig);
    CHECK(ph_ring_sleep(&rig.pipe.down));
    ph_pipe_flush(&rig.pipe); /* nothing to say */
    CHECK_INT(rig.stats.bells_down, ==, before + 1);
    write_bytes(chan, 10, true);
    ph_pipe_flush(&rig.pipe);
    CHECK_INT(rig.stats.bells_down, ==, before + 2);
    ph_ring_awake(&rig.pipe.down);
    rig_fini(&rig);
}

/* Whoever waits for room is woken with a bell that counts as well. */
TEST(chan, bells_for_room_are_counted)
{
    struct rig rig;
    struct ph_event event;
    rig_init(&rig, 8);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    for (int i = 0; i < 20; i++) {
        feed(chan, 'a', 60000);
        rig_io(&rig); /* the ring gets full: the I/O thread asks to be told of room */
    }
    uint64_t before = rig.stats.bells_down;
    while (ph_pipe_next_event(&rig.pipe, &event) == 1)
        ph_buf_unref(event.buf);
    CHECK_INT(rig.stats.bells_down, ==, before + 1);
    rig_fini(&rig);
}
