/* fault.c - see fault.h. */
#include "fault.h"

#include "../../src/base/base_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_epoll_pwait2(int epoll, struct epoll_event *events, int n, const struct timespec *wait,
                        const sigset_t *mask);
int __real_epoll_wait(int epoll, struct epoll_event *events, int n, int wait);
int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int __wrap_epoll_pwait2(int epoll, struct epoll_event *events, int n, const struct timespec *wait,
                        const sigset_t *mask);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int n, int wait);

/* Until the first failure; 0: none is wanted, or it is the turn of `failing`. */
static atomic_long left, failing;
static atomic_bool no_watch;
static atomic_long waits;

void fault_alloc(long nth, long more)
{
    atomic_store(&failing, more + 1);
    atomic_store(&left, nth);
}

long fault_alloc_end(void)
{
    atomic_store(&failing, 0);
    return atomic_exchange(&left, 0);
}

bool fault_alloc_fired(void)
{
    return atomic_load(&left) == 0;
}

void fault_watch(void)
{
    atomic_store(&no_watch, true);
}

/* Only I/O threads have a home for buffers. */
static bool fails(void)
{
    if (ph_thread_home() == NULL || atomic_load(&failing) == 0)
        return false;
    if (atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) > 1)
        return false;
    atomic_fetch_sub(&failing, 1);
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}

int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && ph_thread_home() != NULL && atomic_exchange(&no_watch, false)) {
        errno = ENOSPC;
        return -1;
    }
    return __real_epoll_ctl(epoll, op, fd, event);
}

long fault_waits(void)
{
    return atomic_load(&waits);
}

int __wrap_epoll_pwait2(int epoll, struct epoll_event *events, int n, const struct timespec *wait,
                        const sigset_t *mask)
{
    atomic_fetch_add(&waits, ph_thread_home() != NULL);
    return __real_epoll_pwait2(epoll, events, n, wait, mask);
}

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int n, int wait)
{
    atomic_fetch_add(&waits, ph_thread_home() != NULL);
    return __real_epoll_wait(epoll, events, n, wait);
}
