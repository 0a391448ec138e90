/* test_chan_file.c - files as parts of a response: order, the mark, and every way to end early. */
#include "chan_rig.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define SIZE ((size_t)200000)

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

/* A descriptor of a file of SIZE bytes that has no name. */
static int make_file(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    for (size_t i = 0; i < SIZE; i++)
        fputc(byte_at(i), file);
    fflush(file);
    int fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
    fclose(file);
    CHECK_INT(fd, >=, 0);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Turns until `bytes` are with the engine, the end was said or the exchange was reset; the reader
 * rings the bell. */
static void until(struct rig *rig, struct ph_chan *chan, size_t bytes)
{
    const struct rig_engine *engine = rig_engine_of(chan);
    ph_pipe_flush(&rig->pipe);
    for (;;) {
        rig_io(rig);
        if (engine->held.bytes >= bytes || engine->resets > 0)
            return;
        struct pollfd bell = {.fd = rig->pipe.down.bell, .events = POLLIN};
        if (ph_list_is_empty(&rig->pipe.io.files)) {
            ph_ring_sleep(&rig->pipe.down);
            CHECK_INT(poll(&bell, 1, 20000), >, 0);
            ph_ring_awake(&rig->pipe.down);
        }
    }
}

static struct ph_chan *responding(struct rig *rig)
{
    rig_init(rig, 64);
    struct ph_chan *chan = rig_chan(rig, PH_CHAN_HTTP, NULL);
    struct ph_event event;
    ph_chan_io_fin(chan);
    rig_io(rig);
    while (ph_pipe_next_event(&rig->pipe, &event) == 1)
        ph_buf_unref(event.buf);
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    return chan;
}

/* Takes what the engine holds; the offset in the file behind it. */
static size_t take(struct ph_chan *chan, size_t at)
{
    struct ph_sliceq *held = &rig_engine_of(chan)->held;
    struct iovec iov[64];
    size_t n = ph_sliceq_gather(held, iov, 64, SIZE_MAX);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < iov[i].iov_len; k++, at++)
            CHECK_INT(((uint8_t *)iov[i].iov_base)[k], ==, byte_at(at));
    }
    rig_ack(chan, held->bytes);
    return at;
}

TEST(chan_file, sent_in_blocks_as_far_as_there_is_room)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int fd = make_file();
    size_t at = 5, end = SIZE - 7;
    CHECK_INT(ph_chan_send_file(chan, fd, at, end - at, true), ==, 0);
    CHECK_INT(ph_chan_queued(chan), ==, end - at);
    CHECK_INT(ph_chan_wait_writable(chan), ==, 0);
    while (at < end) {
        until(&rig, chan, 1);
        CHECK_INT(rig_engine_of(chan)->held.bytes, <=, PH_SHARE_MIN); /* the mark is 1000 */
        at = take(chan, at);
    }
    CHECK_INT(at, ==, end);
    CHECK(rig_engine_of(chan)->fin);
    CHECK(!is_open(fd));
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    CHECK_INT(ph_chan_write(chan, NULL, true), ==, PH_E_STATE);
    rig_fini(&rig);
}

TEST(chan_file, what_follows_waits)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int one = make_file(), two = make_file();
    CHECK_INT(ph_chan_send_file(chan, one, 0, 150000, false), ==, 0);
    CHECK_INT(ph_chan_send_file(chan, two, 150000, 100, false), ==, 0);
    struct ph_buf *buf = ph_buf_new(10);
    for (size_t i = 0; i < 10; i++)
        ph_buf_data(buf)[i] = byte_at(150100 + i);
    ph_buf_set_len(buf, 10);
    CHECK_INT(ph_chan_write(chan, buf, true), ==, 0);
    ph_chan_release(chan); /* what was said is still sent */
    size_t at = 0;
    while (at < 150110) {
        until(&rig, chan, 1);
        at = take(chan, at);
    }
    CHECK(rig_engine_of(chan)->fin);
    CHECK_INT(rig_engine_of(chan)->resets, ==, 0);
    CHECK(!is_open(one) && !is_open(two));
    rig_fini(&rig);
}

TEST(chan_file, a_file_that_ends_early_resets)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int fd = make_file();
    CHECK_INT(ph_chan_send_file(chan, fd, SIZE - 100, 5000, true), ==, 0);
    until(&rig, chan, SIZE);
    CHECK_INT(rig_engine_of(chan)->resets, ==, 1);
    CHECK_INT(rig_engine_of(chan)->code, ==, PH_H3_INTERNAL_ERROR);
    CHECK(!is_open(fd));
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    rig_fini(&rig);
}

TEST(chan_file, a_reset_drops_it_and_what_waits)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int one = make_file(), two = make_file();
    CHECK_INT(ph_chan_send_file(chan, one, 0, SIZE, false), ==, 0);
    CHECK_INT(ph_chan_send_file(chan, two, 0, SIZE, true), ==, 0);
    until(&rig, chan, 1);
    CHECK(is_open(one) && is_open(two));
    CHECK_INT(ph_chan_reset(chan, 7), ==, 0);
    until(&rig, chan, SIZE);
    CHECK(!is_open(one) && !is_open(two));
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    rig_fini(&rig);
}

TEST(chan_file, the_end_of_the_exchange_drops_it)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int fd = make_file();
    CHECK_INT(ph_chan_send_file(chan, fd, 0, SIZE, true), ==, 0);
    until(&rig, chan, 1);
    rig_end(chan, false, 0);
    CHECK(!is_open(fd));
    CHECK_INT(ph_chan_queued(chan), ==, 0);
    rig_fini(&rig);
}

TEST(chan_file, an_engine_that_refuses_ends_the_reading)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int fd = make_file();
    rig_engine_of(chan)->is_broken = true;
    CHECK_INT(ph_chan_send_file(chan, fd, 0, SIZE, true), ==, 0);
    until(&rig, chan, 1);
    CHECK(!is_open(fd));
    CHECK(ph_list_is_empty(&rig.pipe.io.files));
    rig_fini(&rig);
}

TEST(chan_file, the_descriptor_is_taken_whatever_is_answered)
{
    struct rig rig;
    rig_init(&rig, 64);
    struct ph_chan *chan = rig_chan(&rig, PH_CHAN_HTTP, NULL);
    struct ph_event event;
    rig_io(&rig);
    CHECK(ph_pipe_next_event(&rig.pipe, &event) == 1);
    int fd = make_file();
    CHECK_INT(ph_chan_send_file(chan, fd, 0, 1, true), ==, PH_E_STATE); /* no head */
    CHECK(!is_open(fd));
    CHECK_INT(ph_chan_respond(chan, 200, NULL, 0, false), ==, 0);
    fd = make_file();
    CHECK_INT(ph_chan_send_file(chan, fd, 0, 0, true), ==, 0); /* nothing but the end */
    CHECK(!is_open(fd));
    ph_pipe_flush(&rig.pipe);
    rig_io(&rig);
    CHECK(rig_engine_of(chan)->fin);
    rig_fini(&rig);
}

TEST(chan_file, a_command_that_nobody_runs_closes_it)
{
    struct rig rig;
    struct ph_chan *chan = responding(&rig);
    int fd = make_file();
    CHECK_INT(ph_chan_send_file(chan, fd, 0, SIZE, true), ==, 0);
    struct ph_msg msg = {.kind = PH_DOWN_FILE, .n = (uint32_t)make_file()};
    int other = (int)msg.n;
    ph_pipe_drop_down(&msg);
    CHECK(!is_open(other));
    rig_fini(&rig);
    CHECK(!is_open(fd));
}
