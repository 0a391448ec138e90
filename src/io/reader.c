/*
 * reader.c - reading files without letting the I/O thread wait for a disk.
 *
 *      I/O thread --submit--> todo --> reader's thread: pread() --> done --wake--> run --> on_done
 *
 * One thread, jobs in order: it is there for what is not in the page cache, which the next reader
 * of the same file will find there. The lock is held to move a pointer, never over a system call.
 */
#include "io.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

struct job_list {
    struct ph_reader_job *head, *tail;
};

struct ph_reader {
    struct ph_ring *wake;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job_list todo, done; /* under the lock */
    bool is_ending;             /* under the lock */
};

static void list_append(struct job_list *list, struct ph_reader_job *job)
{
    job->next = NULL;
    if (list->tail != NULL)
        list->tail->next = job;
    else
        list->head = job;
    list->tail = job;
}

static struct ph_reader_job *list_take(struct job_list *list)
{
    struct ph_reader_job *job = list->head;
    if (job != NULL && (list->head = job->next) == NULL)
        list->tail = NULL;
    return job;
}

static void read_whole(struct ph_reader_job *job)
{
    size_t got = 0;
    while (got < job->n) {
        ssize_t n = pread(job->fd, job->data + got, job->n - got, (off_t)(job->offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            job->got = PH_E_IO;
            return;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    job->got = (ssize_t)got;
}

static void *reader_main(void *arg)
{
    struct ph_reader *reader = arg;
    pthread_mutex_lock(&reader->lock);
    for (;;) {
        struct ph_reader_job *job = reader->is_ending ? NULL : list_take(&reader->todo);
        if (job == NULL && reader->is_ending)
            break;
        if (job == NULL) {
            pthread_cond_wait(&reader->changed, &reader->lock);
            continue;
        }
        pthread_mutex_unlock(&reader->lock);
        read_whole(job);
        pthread_mutex_lock(&reader->lock);
        list_append(&reader->done, job);
        ph_ring_wake(reader->wake);
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

struct ph_reader *ph_reader_new(struct ph_ring *wake)
{
    struct ph_reader *reader = ph_alloc(sizeof(*reader));
    sigset_t all, before;
    reader->wake = wake;
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->changed, NULL);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&reader->thread, NULL, reader_main, reader);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        return reader;
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->lock);
    ph_free(reader);
    return NULL;
}

void ph_reader_free(struct ph_reader *reader)
{
    struct ph_reader_job *job;
    if (reader == NULL)
        return;
    pthread_mutex_lock(&reader->lock);
    reader->is_ending = true;
    pthread_cond_signal(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    pthread_join(reader->thread, NULL);
    ph_reader_run(reader);
    while ((job = list_take(&reader->todo)) != NULL) {
        job->got = PH_E_IO;
        job->on_done(job);
    }
    pthread_cond_destroy(&reader->changed);
    pthread_mutex_destroy(&reader->lock);
    ph_free(reader);
}

void ph_reader_submit(struct ph_reader *reader, struct ph_reader_job *job)
{
    pthread_mutex_lock(&reader->lock);
    list_append(&reader->todo, job);
    pthread_cond_signal(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
}

void ph_reader_run(struct ph_reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    struct job_list done = reader->done;
    reader->done = (struct job_list){NULL, NULL};
    pthread_mutex_unlock(&reader->lock);
    struct ph_reader_job *job;
    while ((job = list_take(&done)) != NULL)
        job->on_done(job);
}

ssize_t ph_reader_try(int fd, uint64_t offset, uint8_t *data, size_t n)
{
    struct iovec iov = {.iov_base = data, .iov_len = n};
    ssize_t got;
    do {
        got = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
    } while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    /* Not every file system can tell: then the thread finds out. */
    bool needs_disk = errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL;
    return needs_disk ? PH_E_AGAIN : PH_E_IO;
}

bool ph_reader_is_cached(int fd, uint64_t offset, size_t n)
{
    uint8_t byte;
    return ph_reader_try(fd, offset, &byte, 1) != PH_E_AGAIN &&
           (n < 2 || ph_reader_try(fd, offset + n - 1, &byte, 1) != PH_E_AGAIN);
}
