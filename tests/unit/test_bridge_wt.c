/* test_bridge_wt.c - streams that the application opens and gives up before the peer lets them be.
 */
#include "world.h"

#define QUIC_ONLY ((const char *const[]){"quic_bind", "127.0.0.1:0", NULL})

enum { LIMIT = 1024, WAITING = 200, LATER = 3 }; /* the client allows LIMIT streams of a kind */

static size_t opened(struct world_chan **notes, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += notes[i]->opened;
    return count;
}

static size_t arrived(const struct client *client)
{
    size_t count = 0;
    for (const struct client_stream *stream = client->streams; stream; stream = stream->next)
        count++;
    return count;
}

static void give_up_waiting(bool by_reset)
{
    static struct world world;
    static struct world_chan *notes[LIMIT + WAITING + LATER];
    const size_t all = PH_COUNT_OF(notes);
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    world_session(&world, &client, "/");
    struct world_chan *session = world_last(&world, PH_CHAN_WT_SESSION);
    for (size_t i = 0; i < all; i++)
        notes[i] = world_open(session, false);
    CHECK_INT(ph_chan_write(notes[0]->chan, ph_buf_copy("x", 1), false), ==, 0);
    ph_server_flush(world.server);
    size_t limit = LIMIT - 1; /* the control stream */
    WORLD_UNTIL(&world, opened(notes, all) == limit);
    WORLD_UNTIL(&world, arrived(&client) == limit); /* those of the client are counted as well */
    int64_t streams = ph_live_get(PH_LIVE_WT_STREAM), chans = ph_live_get(PH_LIVE_CHAN);
    for (size_t i = limit; i < limit + WAITING; i++) {
        if (by_reset)
            CHECK_INT(ph_chan_reset(notes[i]->chan, 7), ==, 0);
        else
            world_release(notes[i]);
    }
    ph_server_flush(world.server);
    WORLD_UNTIL(&world, ph_live_get(PH_LIVE_WT_STREAM) <= streams - WAITING);
    WORLD_UNTIL(&world, ph_live_get(PH_LIVE_CHAN) <= chans - WAITING);
    for (size_t i = limit; i < limit + WAITING; i++)
        CHECK_INT(notes[i]->closed, ==, by_reset); /* who let go hears nothing more */
    /* Credit for a few streams: it goes to those that still wait. */
    for (size_t i = 0; i < 2 * LATER; i++)
        CHECK_INT(ph_chan_write(notes[i]->chan, NULL, true), ==, 0);
    ph_server_flush(world.server);
    WORLD_UNTIL(&world, opened(notes, all) == all - WAITING);
    for (size_t i = limit + WAITING; i < all; i++)
        CHECK_INT(notes[i]->opened, ==, 1);
    world_stop(&world);
}

TEST(bridge_wt, waiting_streams_that_are_released_are_gone_at_once)
{
    give_up_waiting(false);
}

TEST(bridge_wt, waiting_streams_that_are_reset_are_closed_at_once)
{
    give_up_waiting(true);
}
