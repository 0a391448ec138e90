/* test_chan_ws.c - channels of WebSockets without sockets: order of messages, their places, what
 * may be called when, the account of what is queued. */
#include "chan_rig.h"
#include "test.h"

static void turn(struct rig *rig)
{
    ph_pipe_flush(&rig->pipe);
    rig_io(rig);
}

/* The next event as text: "message text(abc)", "closed 1000 reason". */
static const char *next(struct rig *rig)
{
    static char text[128];
    struct ph_event event;
    turn(rig);
    if (ph_pipe_next_event(&rig->pipe, &event) == 0)
        return "none";
    if (event.kind == PH_EVENT_MESSAGE)
        snprintf(text, sizeof(text), "%s(%.*s)", event.text ? "text" : "bytes", (int)event.len,
                 event.len > 0 ? (const char *)event.data : "");
    else if (event.kind == PH_EVENT_CLOSED)
        snprintf(text, sizeof(text), "closed %d %.*s", (int)event.code, (int)event.len,
                 event.len > 0 ? (const char *)event.data : "");
    else
        snprintf(text, sizeof(text), "event %d", (int)event.kind);
    ph_buf_unref(event.buf);
    return text;
}

static struct ph_chan *socket_new(struct rig *rig)
{
    char want[32];
    rig_init(rig, 64);
    struct ph_chan *chan = rig_chan(rig, PH_CHAN_WEBSOCKET, NULL);
    snprintf(want, sizeof(want), "event %d", PH_EVENT_SOCKET);
    CHECK_STR(next(rig), want);
    return chan;
}

static struct ph_buf *text(const char *text)
{
    return ph_buf_copy(text, strlen(text));
}

TEST(chan_ws, messages_in_order_and_before_the_end)
{
    struct rig rig;
    struct ph_chan *chan = socket_new(&rig);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, NULL), ==, 0);
    turn(&rig);
    for (char c = 'a'; c <= 'j'; c++)
        ph_chan_io_message(chan, ph_buf_copy(&c, 1), c % 2 != 0);
    ph_chan_io_message(chan, NULL, true);
    ph_chan_io_closed(chan, true, false, 4000, "bye", 3);
    for (char c = 'a'; c <= 'j'; c++) {
        char want[16];
        snprintf(want, sizeof(want), "%s(%c)", c % 2 != 0 ? "text" : "bytes", c);
        CHECK_STR(next(&rig), want);
    }
    CHECK_STR(next(&rig), "text()");
    CHECK_STR(next(&rig), "closed 4000 bye");
    CHECK_INT(rig_engine_of(chan)->accepts, ==, 1);
    ph_chan_release(chan);
    turn(&rig);
    rig_fini(&rig);
}

TEST(chan_ws, places_go_back_to_the_engine_as_messages)
{
    struct rig rig;
    struct ph_chan *chan = socket_new(&rig);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, NULL), ==, 0);
    ph_chan_io_message(chan, text("one"), true);
    ph_chan_io_message(chan, text("two"), true);
    CHECK_STR(next(&rig), "text(one)");
    CHECK_STR(next(&rig), "text(two)");
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->credit, ==, 0);
    ph_chan_consume_messages(chan, 1);
    ph_chan_consume_messages(chan, 1);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->credit, ==, 2);
    ph_chan_release(chan);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->releases, ==, 1);
    rig_end(chan, false, 1006);
    turn(&rig);
    rig_fini(&rig);
}

TEST(chan_ws, what_may_be_called_when)
{
    static const ph_field ours = {"Sec-WebSocket-Protocol", "x", 22, 1};
    static const ph_field connection = {"connection", "close", 10, 5};
    static const ph_field fine = {"x-a", "1", 3, 1};
    struct rig rig;
    struct ph_chan *chan = socket_new(&rig);
    CHECK_INT(ph_chan_send_message(chan, text("x"), true), ==, PH_E_STATE);
    CHECK_INT(ph_chan_close(chan, 1000, "", 0), ==, PH_E_STATE);
    CHECK_INT(ph_chan_write(chan, text("x"), false), ==, PH_E_STATE);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, true), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_respond(chan, 103, NULL, 0, false), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_accept(chan, &ours, 1, NULL), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_accept(chan, &connection, 1, NULL), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, "not offered"), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_stop_sending(chan, 0), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_trailers(chan, NULL, 0), ==, PH_E_INVAL);
    CHECK(ph_chan_open_stream(chan, true) == NULL);
    CHECK_INT(ph_chan_send_datagram(chan, text("x"), 0), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_accept(chan, &fine, 1, NULL), ==, 0);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, NULL), ==, PH_E_STATE);
    CHECK_INT(ph_chan_respond(chan, 403, NULL, 0, true), ==, PH_E_STATE);
    static const uint32_t bad[] = {0, 999, 1004, 1005, 1006, 1015, 2999, 5000};
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_chan_close(chan, bad[i], "", 0), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_close(chan, 1000, "\xff", 1), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_close(chan, 4000, "r", 1), ==, 0);
    CHECK_INT(ph_chan_close(chan, 4001, "r", 1), ==, 0); /* a second one does nothing */
    CHECK_INT(ph_chan_send_message(chan, text("x"), true), ==, PH_E_CLOSED);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->closes, ==, 1);
    CHECK_INT(rig_engine_of(chan)->code, ==, 4000);
    rig_end(chan, true, 4000);
    CHECK_STR(next(&rig), "closed 4000 ");
    CHECK_INT(ph_chan_send_message(chan, text("x"), true), ==, PH_E_CLOSED);
    ph_chan_release(chan);
    turn(&rig);
    rig_fini(&rig);
}

TEST(chan_ws, rejected_it_is_a_response)
{
    struct rig rig;
    struct ph_chan *chan = socket_new(&rig);
    CHECK_INT(ph_chan_respond(chan, 403, NULL, 0, false), ==, 0);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, NULL), ==, PH_E_STATE);
    CHECK_INT(ph_chan_send_message(chan, text("x"), true), ==, PH_E_STATE);
    CHECK_INT(ph_chan_write(chan, text("no"), true), ==, 0);
    turn(&rig);
    CHECK_INT(rig_engine_of(chan)->responses, ==, 1);
    CHECK(rig_engine_of(chan)->fin);
    rig_end(chan, true, 0);
    CHECK_STR(next(&rig), "closed 0 ");
    ph_chan_release(chan);
    turn(&rig);
    rig_fini(&rig);
}

TEST(chan_ws, queued_is_what_the_engine_made_of_it)
{
    struct rig rig;
    struct ph_chan *chan = socket_new(&rig);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, NULL), ==, 0);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 1);
    struct ph_buf *large = ph_buf_new(1000);
    ph_buf_set_len(large, 1000);
    memset(ph_buf_data(large), 'x', 1000);
    CHECK_INT(ph_chan_send_message(chan, large, false), ==, 0);
    CHECK_INT(ph_chan_send_message(chan, NULL, true), ==, 0);
    CHECK_INT(ph_chan_queued(chan), ==, 1000);
    turn(&rig);
    CHECK_INT(ph_chan_queued(chan), ==, 1004);
    CHECK_INT(rig.stats.messages_out, ==, 2);
    CHECK_INT(rig.stats.bytes_out, ==, 1000);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 0);
    rig_ack(chan, 900);
    CHECK_STR(next(&rig), "none");
    rig_ack(chan, 50);
    char want[32];
    snprintf(want, sizeof(want), "event %d", PH_EVENT_WRITABLE);
    CHECK_STR(next(&rig), want);
    rig_ack(chan, 1000);
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    rig_end(chan, false, 1006);
    CHECK_INT(ph_chan_send_message(chan, text("late"), true), ==, 0); /* it was not told yet */
    CHECK_STR(next(&rig), "closed 1006 ");
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    ph_chan_release(chan);
    turn(&rig);
    rig_fini(&rig);
}

TEST(chan_ws, what_was_not_published_is_dropped_with_the_release)
{
    struct rig rig;
    struct ph_chan *chan = socket_new(&rig);
    CHECK_INT(ph_chan_accept(chan, NULL, 0, NULL), ==, 0);
    turn(&rig);
    ph_chan_release(chan);
    ph_chan_io_message(chan, text("nobody"), true);
    turn(&rig);
    ph_chan_io_message(chan, text("nobody"), true);
    rig_end(chan, false, 1006);
    CHECK_STR(next(&rig), "none");
    rig_fini(&rig);
}
