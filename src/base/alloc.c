/*
 * alloc.c - memory, and what happens when the system has none.
 *
 *      malloc -> none? -> a block of the thread's reserve goes back -> malloc -> ... -> abort
 *
 * Small allocations never fail for those who ask, so that no error path of theirs goes untested. On
 * the I/O thread that is paid for by the reserve: whoever asked gets its memory, and ends at the
 * next place where it can be ended as a whole (ph_alloc_failed()): its connection goes, the others
 * do not notice. Until the reserve is whole again, new work is refused.
 *
 * Libraries ask here too (nghttp2 1.52 frees twice what it could not queue, so that they had better
 * get what they want). Only when the reserve is used up do they get NULL. Blocks as large as a peer
 * can make them, which no reserve could hold, may fail at once: ph_try_alloc().
 *
 * What remains: without a reserve (other threads, and before the I/O thread runs), or when it is
 * used up before anything was given back, the process ends. It says so on standard error.
 */
#include "base.h"

#include "base_internal.h"

#include <stdlib.h>

static _Noreturn void out_of_memory(size_t size)
{
    fprintf(stderr, "pronghorn: out of memory: cannot have %zu bytes\n", size);
    abort();
}

/* --- The reserve --- */

bool ph_reserve_fill(struct ph_reserve *reserve)
{
    for (size_t i = 0; i < PH_RESERVE_BLOCKS; i++) {
        if (reserve->blocks[i] == NULL)
            reserve->blocks[i] = malloc(PH_RESERVE_BLOCK);
        if (reserve->blocks[i] == NULL)
            return false;
    }
    return true;
}

void ph_reserve_fini(struct ph_reserve *reserve)
{
    for (size_t i = 0; i < PH_RESERVE_BLOCKS; i++)
        free(reserve->blocks[i]);
    *reserve = (struct ph_reserve){.failures = reserve->failures};
}

static struct ph_reserve *count_failure(size_t size)
{
    struct ph_reserve *reserve = ph_thread_reserve();
    if (reserve == NULL)
        return NULL;
    reserve->failures++;
    reserve->size = size;
    return reserve;
}

bool ph_alloc_failed(void)
{
    struct ph_reserve *reserve = ph_thread_reserve();
    if (reserve == NULL || !reserve->is_failed)
        return false;
    reserve->is_failed = false;
    return true;
}

/* There is no memory of this size: gives some back. false: there is nothing to give. */
static bool give_way(size_t size)
{
    struct ph_reserve *reserve = count_failure(size);
    if (reserve == NULL)
        return false;
    reserve->is_failed = true;
    for (size_t i = 0; i < PH_RESERVE_BLOCKS; i++) {
        if (reserve->blocks[i] == NULL)
            continue;
        free(reserve->blocks[i]);
        reserve->blocks[i] = NULL;
        return true;
    }
    return false;
}

static void make_room(size_t size)
{
    if (!give_way(size))
        out_of_memory(size);
}

/* --- What never fails --- */

/* What malloc() takes from the thread's own cache; calloc() and aligned_alloc() pass it by. */
#define CACHED_MAX ((size_t)1024)

static void *get_zeroed(size_t size)
{
    /* A type that wants a cache line of its own has a size that is a multiple of one; calloc()
     * would place it at 16. */
    void *p;
    if (size >= 64 && size % 64 == 0) {
        p = aligned_alloc(64, size);
        if (p != NULL)
            memset(p, 0, size);
    } else if (size <= CACHED_MAX) {
        p = malloc(size != 0 ? size : 1);
        if (p != NULL)
            memset(p, 0, size);
    } else {
        p = calloc(1, size != 0 ? size : 1);
    }
    return p;
}

void *ph_alloc(size_t size)
{
    void *p;
    while ((p = get_zeroed(size)) == NULL)
        make_room(size);
    return p;
}

void *ph_alloc_lines(size_t size)
{
    size_t room = size + 64 + sizeof(void *);
    uint8_t *block;
    while ((block = malloc(room)) == NULL)
        make_room(room);
    uint8_t *p = block + sizeof(void *);
    p += (64 - (uintptr_t)p % 64) % 64;
    memcpy(p - sizeof(void *), &block, sizeof(void *)); /* for the one who frees it */
    memset(p, 0, size);
    return p;
}

void ph_free_lines(void *p)
{
    void *block;
    memcpy(&block, (uint8_t *)p - sizeof(void *), sizeof(void *));
    free(block);
}

void *ph_realloc(void *p, size_t size)
{
    void *moved;
    while ((moved = realloc(p, size != 0 ? size : 1)) == NULL)
        make_room(size);
    return moved;
}

void *ph_queue_grow(void *entries, size_t size, size_t cap, size_t head, size_t new_cap)
{
    PH_ASSERT(new_cap > cap && new_cap <= SIZE_MAX / size);
    const char *old = entries;
    char *grown = ph_realloc(NULL, new_cap * size);
    if (cap > 0) {
        size_t front = (cap - head) * size;
        memcpy(grown, old + head * size, front);
        memcpy(grown + front, old, head * size);
    }
    ph_free(entries);
    return grown;
}

char *ph_strdup(const char *s)
{
    return ph_strndup(s, strlen(s));
}

char *ph_strndup(const char *s, size_t n)
{
    char *copy = ph_realloc(NULL, n + 1);
    if (n > 0)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

void ph_free(void *p)
{
    free(p);
}

/* --- What may fail --- */

void *ph_try_alloc(size_t size)
{
    void *p = malloc(size != 0 ? size : 1);
    if (p == NULL)
        count_failure(size);
    return p;
}

void *ph_lib_malloc(size_t size, void *self)
{
    void *p;
    (void)self;
    while ((p = malloc(size != 0 ? size : 1)) == NULL && give_way(size))
        continue;
    return p;
}

void *ph_lib_calloc(size_t n, size_t size, void *self)
{
    void *p;
    (void)self;
    while ((p = calloc(n, size)) == NULL && give_way(n * size))
        continue;
    return p;
}

void *ph_lib_realloc(void *p, size_t size, void *self)
{
    void *moved;
    (void)self;
    while ((moved = realloc(p, size != 0 ? size : 1)) == NULL && give_way(size))
        continue;
    return moved;
}

void ph_lib_free(void *p, void *self)
{
    (void)self;
    free(p);
}
