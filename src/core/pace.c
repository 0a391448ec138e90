/*
 * pace.c - request bodies that come too slowly, of every engine.
 *
 *      on_request -> ph_pace_begin();  on_body -> ph_pace_moved();  timers -> ph_paces_expire()
 *
 * A body has a grace at first; from then on every byte buys the time that the least rate gives it,
 * up to body_timeout, which is how long a pause may be anyway. Time during which the application
 * has bytes that it did not consume, or a client waits for "100 Continue", does not count: the peer
 * may be waiting for us. Once the response is complete the rest of the body means nothing, and the
 * response is not cut for it. Bodies are looked at once a period, in the order of the list.
 */
#include "core.h"

#define PERIOD_MAX PH_SEC

static uint64_t period(const struct ph_server *server)
{
    return PH_MIN(PERIOD_MAX, server->config->body_rate_grace * PH_MSEC / 4);
}

static void look_again(struct ph_server *server, struct ph_pace *pace)
{
    pace->looked_at = server->now;
    pace->look_at = server->now + period(server);
    ph_list_append(&server->paces, &pace->link);
}

void ph_pace_begin(struct ph_chan *chan, bool expects_continue)
{
    struct ph_server *server = chan->server;
    struct ph_pace *pace = &chan->io.pace;
    if (server->config->min_body_rate == 0 || chan->io.fin_in)
        return;
    pace->expects_continue = expects_continue;
    pace->due = server->now + server->config->body_rate_grace * PH_MSEC;
    look_again(server, pace);
}

void ph_pace_moved(struct ph_chan *chan, size_t n)
{
    const struct ph_config *config = chan->server->config;
    struct ph_pace *pace = &chan->io.pace;
    if (!ph_link_is_on(&pace->link))
        return;
    uint64_t ahead = PH_MAX(config->body_timeout, config->body_rate_grace) * PH_MSEC;
    pace->due = PH_MIN(pace->due + ph_time_bought(n, config->min_body_rate, ahead),
                       chan->server->now + ahead);
    pace->expects_continue = false;
}

static bool is_ours_to_move(const struct ph_chan_io *io)
{
    return io->unconsumed > 0 || (io->pace.expects_continue && !io->asked);
}

static bool is_over(const struct ph_chan_io *io)
{
    return io->engine.any == NULL || io->fin_in || io->rx_ended || io->rx_done ||
           io->engine.ex->out == PH_EX_DONE;
}

void ph_paces_expire(struct ph_server *server)
{
    while (!ph_list_is_empty(&server->paces)) {
        struct ph_pace *pace = PH_CONTAINER(server->paces.next, struct ph_pace, link);
        struct ph_chan *chan = PH_CONTAINER(pace, struct ph_chan, io.pace);
        if (pace->look_at > server->now)
            return;
        ph_list_remove(&pace->link);
        if (is_over(&chan->io))
            continue;
        if (is_ours_to_move(&chan->io))
            pace->due += server->now - pace->looked_at;
        if (server->now < pace->due) {
            look_again(server, pace);
            continue;
        }
        ph_count(&server->stats, timeouts_body_rate);
        ph_bridge_http_late(chan);
    }
}

uint64_t ph_paces_next(const struct ph_server *server)
{
    if (ph_list_is_empty(&server->paces))
        return PH_NEVER;
    return PH_CONTAINER(server->paces.next, const struct ph_pace, link)->look_at;
}
