/* test_reader.c - reading files on another thread, and a file's way into a socket. */
#include "test.h"

#include "../../src/io/io.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct job {
    struct ph_reader_job job; /* first */
    uint8_t data[16];
    int done;
};

static void on_done(struct ph_reader_job *job)
{
    ((struct job *)(void *)job)->done++;
}

static FILE *make_file(const char *text)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    fputs(text, file);
    fflush(file);
    return file;
}

static void submit(struct ph_reader *reader, struct job *job, int fd, uint64_t offset)
{
    *job = (struct job){
        .job = {.fd = fd, .offset = offset, .data = job->data, .n = 16, .on_done = on_done}};
    ph_reader_submit(reader, &job->job);
}

TEST(reader, reads_in_order_and_rings)
{
    struct ph_ring bell;
    struct job jobs[3];
    FILE *file = make_file("0123456789abcdefghij");
    CHECK_INT(ph_ring_init(&bell, 4), ==, 0);
    struct ph_reader *reader = ph_reader_new(&bell);
    CHECK(reader != NULL);
    submit(reader, &jobs[0], fileno(file), 0);
    submit(reader, &jobs[1], fileno(file), 10);
    submit(reader, &jobs[2], -1, 0);
    while (jobs[2].done == 0) {
        struct pollfd poller = {.fd = bell.bell, .events = POLLIN};
        CHECK_INT(poll(&poller, 1, 20000), ==, 1);
        ph_ring_awake(&bell);
        ph_reader_run(reader);
    }
    CHECK_INT(jobs[0].job.got, ==, 16);
    CHECK_MEM(jobs[0].data, "0123456789abcdef", 16);
    CHECK_INT(jobs[1].job.got, ==, 10); /* the end of the file */
    CHECK_MEM(jobs[1].data, "abcdefghij", 10);
    CHECK_INT(jobs[2].job.got, ==, PH_E_IO);
    ph_reader_free(reader);
    ph_ring_fini(&bell);
    fclose(file);
}

TEST(reader, its_end_leaves_no_job_undone)
{
    struct ph_ring bell;
    struct job jobs[50];
    FILE *file = make_file("0123456789abcdefghij");
    CHECK_INT(ph_ring_init(&bell, 4), ==, 0);
    struct ph_reader *reader = ph_reader_new(&bell);
    for (size_t i = 0; i < PH_COUNT_OF(jobs); i++)
        submit(reader, &jobs[i], fileno(file), 0);
    ph_reader_free(reader);
    for (size_t i = 0; i < PH_COUNT_OF(jobs); i++) {
        CHECK_INT(jobs[i].done, ==, 1);
        CHECK(jobs[i].job.got == 16 || jobs[i].job.got == PH_E_IO);
    }
    ph_reader_free(NULL);
    ph_ring_fini(&bell);
    fclose(file);
}

TEST(reader, tells_what_is_at_hand)
{
    uint8_t data[16];
    FILE *file = make_file("0123");
    ssize_t got = ph_reader_try(fileno(file), 1, data, sizeof(data));
    CHECK(got == 3 || got == PH_E_AGAIN); /* as the file system likes */
    CHECK(got != 3 || memcmp(data, "123", 3) == 0);
    CHECK_INT(ph_reader_try(-1, 0, data, sizeof(data)), ==, PH_E_IO);
    fclose(file);
}

TEST(reader, a_file_between_bytes_reaches_the_socket_in_order)
{
    int ends[2];
    struct ph_sliceq q;
    FILE *file = make_file("0123456789");
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), ==, 0);
    ph_sliceq_init(&q);
    ph_sliceq_push_copy(&q, "<", 1);
    ph_sliceq_push(&q, ph_slice_of(ph_buf_file(dup(fileno(file)), 2, 5)));
    ph_sliceq_push_copy(&q, ">", 1);
    int fd;
    uint64_t offset;
    CHECK_INT(ph_sliceq_file(&q, &fd, &offset), ==, 0);
    CHECK_INT(ph_tcp_write(ends[0], &q), ==, 1); /* stops in front of the file */
    CHECK_INT(ph_sliceq_file(&q, &fd, &offset), ==, 5);
    CHECK_INT(offset, ==, 2);
    CHECK_INT(ph_tcp_send_file(ends[0], &q, 3), ==, 3);
    CHECK_INT(ph_sliceq_file(&q, &fd, &offset), ==, 2);
    CHECK_INT(offset, ==, 5);
    CHECK_INT(ph_tcp_write(ends[0], &q), ==, 0);
    CHECK_INT(ph_tcp_send_file(ends[0], &q, 100), ==, 2);
    CHECK_INT(ph_tcp_write(ends[0], &q), ==, 1);
    char got[16];
    CHECK_INT(recv(ends[1], got, sizeof(got), 0), ==, 7);
    CHECK_MEM(got, "<23456>", 7);
    ph_sliceq_push(&q, ph_slice_of(ph_buf_file(dup(fileno(file)), 8, 100)));
    CHECK_INT(ph_tcp_send_file(ends[0], &q, 100), ==, 2);
    CHECK_INT(ph_tcp_send_file(ends[0], &q, 100), ==, PH_E_IO); /* shorter than promised */
    ph_sliceq_fini(&q);
    close(ends[0]);
    close(ends[1]);
    fclose(file);
}
