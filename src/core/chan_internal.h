/*
 * chan_internal.h - what chan.c, chan_publish.c and chan_command.c share: what waits in a channel,
 * and how the I/O half lets go of it. Everything is called on the I/O thread.
 */
#ifndef PH_CHAN_INTERNAL_H
#define PH_CHAN_INTERNAL_H

#include "core.h"

struct ph_chan_datagrams {
    struct ph_buf **ring; /* limits.datagrams_in entries */
    uint32_t head, count;
    size_t bytes;
    uint32_t published; /* not given back by the application */
    size_t inflight;    /* outbound, given to the engine */
};

struct ph_chan_messages {
    struct {
        struct ph_buf *buf; /* own; NULL: empty */
        bool text;
    } * ring; /* a power of two */
    uint32_t cap, head, count;
};

/* Puts a channel with pending bits on the list to be published from. */
void ph_chan_io_ready(struct ph_chan *chan);
/* CLOSED was published and RELEASE was seen: the last act of the I/O half. Drops its reference. */
void ph_chan_io_finish(struct ph_chan *chan);

/* What was received and not published is nobody's any more. Credit is another matter. */
void ph_chan_io_drop_blocks(struct ph_chan_io *io);
void ph_chan_io_drop_datagrams(struct ph_chan *chan);
void ph_chan_io_drop_messages(struct ph_chan *chan);

/* n received bytes (unconsumed ones at most) are done with: the engine's peer may send as many. */
void ph_chan_io_give_back(struct ph_chan *chan, size_t n);
/* n datagrams that the application queued have left or are lost: wakes who waits for room. */
void ph_chan_io_unqueue_datagrams(struct ph_chan *chan, size_t n);

#endif
