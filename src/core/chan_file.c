/*
 * chan_file.c - files as parts of a response: what ph_chan_send_file() asked for.
 *
 *      PH_DOWN_FILE --> engine, when it can send files itself (HTTP/1.1 in cleartext: sendfile(2))
 *                  \-> read a block --> ops->write() --> acked --> read the next
 *
 * Reads are as far ahead as a channel may queue (chan->high). What is in the page cache is read
 * here; for the rest the reader's thread waits. Commands behind the file wait in `held`. A file
 * that turns out shorter than it was, or cannot be read, aborts the response: its length was
 * promised.
 */
#include "core.h"

#include <unistd.h>

#define BLOCK ((size_t)65536)
/* Blocks read for one channel in one turn: the others have their turn too. */
#define BLOCKS_PER_TURN 8

struct ph_chan_file {
    struct ph_reader_job job; /* first */
    struct ph_link link;      /* pipe->io.files */
    struct ph_chan *chan;     /* NULL: given up while the reader has it */
    int fd;                   /* own */
    uint64_t offset, left;
    bool fin, is_reading;
    struct ph_buf *block; /* own; what the reader fills */
    struct ph_msg *held;  /* commands behind it, in order */
    size_t held_len, held_cap;
};

struct ph_reader *ph_pipe_reader(struct ph_pipe *pipe)
{
    if (pipe->io.reader == NULL)
        pipe->io.reader = ph_reader_new(&pipe->down);
    return pipe->io.reader;
}

static void file_free(struct ph_chan_file *file)
{
    ph_list_remove(&file->link);
    ph_buf_unref(file->block);
    close(file->fd);
    ph_free(file->held);
    ph_free(file);
}

void ph_chan_file_wake(struct ph_chan *chan)
{
    struct ph_chan_file *file = chan->io.file;
    if (!file->is_reading && !ph_link_is_on(&file->link))
        ph_list_append(&chan->pipe->io.files, &file->link);
}

void ph_chan_file_drop(struct ph_chan *chan)
{
    struct ph_chan_file *file = chan->io.file;
    if (file == NULL)
        return;
    chan->io.file = NULL;
    size_t unsent = file->left;
    for (size_t i = 0; i < file->held_len; i++) {
        if (file->held[i].kind == PH_DOWN_WRITE || file->held[i].kind == PH_DOWN_FILE)
            unsent += file->held[i].s.n;
        ph_pipe_drop_down(&file->held[i]);
    }
    file->held_len = 0;
    ph_chan_io_unqueue(chan, unsent);
    file->chan = NULL;
    if (!file->is_reading)
        file_free(file);
}

bool ph_chan_file_holds(struct ph_chan *chan, struct ph_msg *msg)
{
    struct ph_chan_file *file = chan->io.file;
    bool waits =
        msg->kind == PH_DOWN_WRITE || msg->kind == PH_DOWN_FILE || msg->kind == PH_DOWN_TRAILERS;
    if (file == NULL || !waits)
        return false;
    if (file->held_len == file->held_cap) {
        file->held_cap = PH_MAX(file->held_cap * 2, (size_t)4);
        file->held = ph_realloc(file->held, file->held_cap * sizeof(*file->held));
    }
    file->held[file->held_len++] = *msg;
    /* A release must not take the response for unfinished. */
    if ((msg->flags & PH_MSG_FIN) != 0 || msg->kind == PH_DOWN_TRAILERS)
        chan->io.fin_out = true;
    return true;
}

/* All of it is with the engine: goes on with what waits, up to the next file. */
static void file_done(struct ph_chan_file *file)
{
    struct ph_chan *chan = file->chan;
    chan->io.file = NULL;
    for (size_t i = 0; i < file->held_len; i++) {
        if (!ph_chan_file_holds(chan, &file->held[i]))
            ph_chan_io_command(chan, &file->held[i]);
    }
    file_free(file);
}

static void file_failed(struct ph_chan_file *file, const char *why)
{
    struct ph_chan *chan = file->chan;
    struct ph_msg reset = {.kind = PH_DOWN_RESET, .chan = chan, .a = PH_H3_INTERNAL_ERROR};
    ph_log(PH_LOG_WARNING, "http: response aborted error=\"%s\"", why);
    ph_chan_io_command(chan, &reset); /* drops the file */
}

/* Hands a block on. false: it was the last, or the end of everything. */
static bool give(struct ph_chan_file *file, struct ph_buf *block, ssize_t got)
{
    struct ph_chan *chan = file->chan;
    if (got <= 0) {
        ph_buf_unref(block);
        file_failed(file, got == 0 ? "the file is shorter than it was" : "the file is unreadable");
        return false;
    }
    block->len = (size_t)got;
    file->offset += block->len;
    file->left -= block->len;
    bool is_last = file->left == 0;
    if (ph_chan_io_write(chan, ph_slice_of(block), is_last && file->fin) < 0)
        ph_chan_file_drop(chan);
    if (chan->io.file != file)
        return false;
    if (is_last)
        file_done(file);
    return !is_last;
}

static void on_read(struct ph_reader_job *job)
{
    struct ph_chan_file *file = (struct ph_chan_file *)(void *)job;
    struct ph_buf *block = file->block;
    file->block = NULL;
    file->is_reading = false;
    if (file->chan == NULL) {
        ph_buf_unref(block);
        file_free(file);
        return;
    }
    struct ph_chan *chan = file->chan;
    if (give(file, block, job->got))
        ph_chan_file_wake(chan);
}

static void read_later(struct ph_chan_file *file, struct ph_buf *block, size_t n)
{
    struct ph_reader *reader = ph_pipe_reader(file->chan->pipe);
    file->block = block;
    file->is_reading = true;
    file->job.fd = file->fd;
    file->job.offset = file->offset;
    file->job.data = block->data;
    file->job.n = n;
    file->job.on_done = on_read;
    if (reader != NULL) {
        ph_reader_submit(reader, &file->job);
        return;
    }
    file->job.got = PH_E_IO;
    on_read(&file->job);
}

/* Reads up to the mark. A block is no larger than what the channel may queue, which is little for
 * one of many responses of a connection. */
static void step(struct ph_chan_file *file)
{
    struct ph_chan *chan = file->chan;
    uint64_t most = PH_MIN(BLOCK, PH_MAX(chan->high, PH_SHARE_MIN));
    for (int i = 0; chan->io.inflight < chan->high; i++) {
        if (i == BLOCKS_PER_TURN) {
            ph_chan_file_wake(chan);
            return;
        }
        size_t n = (size_t)PH_MIN(file->left, most);
        struct ph_buf *block = ph_buf_new(n);
        ssize_t got = ph_reader_try(file->fd, file->offset, block->data, n);
        if (got == PH_E_AGAIN) {
            read_later(file, block, n);
            return;
        }
        if (!give(file, block, got))
            return;
    }
}

void ph_chan_files_run(struct ph_pipe *pipe)
{
    struct ph_link now;
    struct ph_link *link;
    if (pipe->io.reader != NULL)
        ph_reader_run(pipe->io.reader);
    ph_list_init(&now);
    while ((link = ph_list_take(&pipe->io.files)) != NULL)
        ph_list_append(&now, link);
    while ((link = ph_list_take(&now)) != NULL)
        step(PH_CONTAINER(link, struct ph_chan_file, link));
}

void ph_chan_file_command(struct ph_chan *chan, struct ph_msg *msg)
{
    struct ph_chan_io *io = &chan->io;
    bool fin = (msg->flags & PH_MSG_FIN) != 0;
    int fd = (int)msg->n;
    if (io->engine.any == NULL || io->tx_done) {
        ph_chan_io_unqueue(chan, msg->s.n);
        close(fd);
        return;
    }
    io->fin_out = io->fin_out || fin;
    io->inflight += msg->s.n;
    if (io->ops->file != NULL && io->ops->file(chan, fd, msg->a, msg->s.n, fin)) {
        ph_count_add(chan->pipe->stats, bytes_out, msg->s.n);
        return;
    }
    io->inflight -= msg->s.n;
    struct ph_chan_file *file = ph_alloc(sizeof(*file));
    file->chan = chan;
    file->fd = fd;
    file->offset = msg->a;
    file->left = msg->s.n;
    file->fin = fin;
    io->file = file;
    ph_chan_file_wake(chan);
}
