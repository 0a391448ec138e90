/* test_pipe.c - which messages wake the consumer, and which may wait for others. */
#include "chan_rig.h"
#include "test.h"

#include <poll.h>

static bool is_bell_up(const struct rig *rig)
{
    struct pollfd poller = {.fd = rig->pipe.up.bell, .events = POLLIN};
    return poll(&poller, 1, 0) == 1;
}

/* A request that was answered and released; the consumer sleeps. */
static struct ph_chan *answered(struct rig *rig)
{
    struct ph_chan *chan = rig_chan(rig, PH_CHAN_HTTP, NULL);
    struct ph_event event;
    ph_chan_io_fin(chan);
    rig_io(rig);
    CHECK_INT(ph_pipe_next_event(&rig->pipe, &event), ==, 1);
    CHECK(event.kind == PH_EVENT_REQUEST && event.chan == chan);
    CHECK_INT(ph_pipe_next_event(&rig->pipe, &event), ==, 1);
    CHECK(event.kind == PH_EVENT_DATA && event.fin);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    CHECK_INT(ph_chan_write(chan, ph_buf_copy("hello", 5), true), ==, 0);
    ph_chan_release(chan);
    ph_pipe_flush(&rig->pipe);
    rig_io(rig);
    rig_ack(chan, 5);
    CHECK_INT(ph_pipe_next_event(&rig->pipe, &event), ==, 0);
    rig_io(rig);
    CHECK(!is_bell_up(rig));
    return chan;
}

TEST(pipe, the_end_of_a_released_request_wakes_nobody_by_itself)
{
    struct rig rig;
    struct ph_event event;
    rig_init(&rig, 64);
    struct ph_chan *chan = answered(&rig);
    rig_end(chan, true, 0);
    rig_io(&rig);
    CHECK(!is_bell_up(&rig));
    CHECK_INT(ph_pipe_next_publish(&rig.pipe), ==, PH_QUIET_WAIT);
    rig.pipe.io.now = PH_QUIET_WAIT - 1;
    rig_io(&rig);
    CHECK(!is_bell_up(&rig));
    rig.pipe.io.now = PH_QUIET_WAIT;
    rig_io(&rig);
    CHECK(is_bell_up(&rig));
    CHECK_INT(ph_pipe_next_publish(&rig.pipe), ==, PH_NEVER);
    CHECK_INT(ph_pipe_next_event(&rig.pipe, &event), ==, 0); /* it knew already */
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 0);
    CHECK(!is_bell_up(&rig));
    rig_fini(&rig);
}

TEST(pipe, it_goes_with_the_next_event_and_is_not_rung_for_again)
{
    struct rig rig;
    struct ph_event event;
    rig_init(&rig, 64);
    rig_end(answered(&rig), true, 0);
    rig_io(&rig);
    struct ph_chan *other = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    rig_io(&rig);
    CHECK(is_bell_up(&rig));
    CHECK_INT(ph_pipe_next_event(&rig.pipe, &event), ==, 1);
    CHECK(event.kind == PH_EVENT_REQUEST && event.chan == other);
    CHECK_INT(ph_live_get(PH_LIVE_CHAN), ==, 1);
    CHECK_INT(ph_pipe_next_event(&rig.pipe, &event), ==, 0);
    rig.pipe.io.now = 2 * PH_QUIET_WAIT;
    rig_io(&rig);
    CHECK(!is_bell_up(&rig));
    rig_fini(&rig);
}
