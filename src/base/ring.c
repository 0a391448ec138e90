/*
 * ring.c - bounded single-producer single-consumer ring of messages, with an eventfd as its bell.
 *
 * The only road between the I/O thread and the consumer; one ring each way. Indices run freely and
 * are taken modulo the size, which is a power of two. Invariants:
 * - tail - head <= slots, always; the producer owns [tail, head + slots), the consumer [head,
 * tail);
 * - `sleeping` goes 0 -> 1 by the consumer only, and whoever swaps it 1 -> 0 owes the bell: so
 * there is at most one write to the bell for each time the consumer lay down;
 * - no wake-up is lost: the producer publishes and then looks at `sleeping`, the consumer sets
 *   `sleeping` and then looks at the tail; all four are sequentially consistent, so at least one of
 *   them sees the other.
 */
#include "base.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int ph_ring_init(struct ph_ring *ring, uint32_t slots)
{
    PH_ASSERT(slots != 0 && (slots & (slots - 1)) == 0 && slots <= UINT32_C(1) << 31);
    *ring = (struct ph_ring){.mask = slots - 1, .bell = -1};
    ring->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ring->bell < 0)
        return PH_E_IO;
    ring->slots = ph_alloc(slots * sizeof(*ring->slots));
    return PH_OK;
}

void ph_ring_fini(struct ph_ring *ring)
{
    if (ring->slots == NULL)
        return;
    close(ring->bell);
    ph_free(ring->slots);
    ring->slots = NULL;
    ring->bell = -1;
}

uint32_t ph_ring_used(const struct ph_ring *ring)
{
    /* Relaxed, head first: a count of slots, not of what is in them, and never below zero. */
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t used = atomic_load_explicit(&ring->tail, memory_order_relaxed) - head;
    return used <= ring->mask + 1 ? used : ring->mask + 1;
}

/* --- Producer --- */

uint32_t ph_ring_room(struct ph_ring *ring)
{
    /* Acquire: the consumer's reads of a slot come before it is written again. */
    ring->head_cached = atomic_load_explicit(&ring->head, memory_order_acquire);
    return ring->mask + 1 - (ring->tail_local - ring->head_cached);
}

bool ph_ring_push(struct ph_ring *ring, const struct ph_msg *msg)
{
    if (ring->tail_local - ring->head_cached > ring->mask && ph_ring_room(ring) == 0)
        return false;
    ring->slots[ring->tail_local & ring->mask] = *msg;
    ring->tail_local++;
    return true;
}

static void bell_ring(struct ph_ring *ring)
{
    uint64_t one = 1;
    ssize_t n;
    do {
        n = write(ring->bell, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    /* EAGAIN: the counter is at its end, so the bell is up anyway. */
    PH_ASSERT(n == (ssize_t)sizeof(one) || errno == EAGAIN);
}

static bool wake_sleeper(struct ph_ring *ring)
{
    if (atomic_load_explicit(&ring->sleeping, memory_order_seq_cst) == 0)
        return false;
    /* Acquire-release: one of several wakers wins, and the consumer sees what it did before. */
    if (atomic_exchange_explicit(&ring->sleeping, 0, memory_order_acq_rel) == 0)
        return false;
    bell_ring(ring);
    return true;
}

bool ph_ring_publish(struct ph_ring *ring)
{
    /* Relaxed: nobody else writes the tail. */
    if (atomic_load_explicit(&ring->tail, memory_order_relaxed) == ring->tail_local)
        return false;
    /* Sequentially consistent (includes release: slots before tail): must not pass the look at
     * `sleeping` below. */
    atomic_store_explicit(&ring->tail, ring->tail_local, memory_order_seq_cst);
    return wake_sleeper(ring);
}

void ph_ring_show(struct ph_ring *ring)
{
    /* Sequentially consistent: as in ph_ring_publish(), for the look at `sleeping` of a nudge. */
    atomic_store_explicit(&ring->tail, ring->tail_local, memory_order_seq_cst);
}

bool ph_ring_nudge(struct ph_ring *ring)
{
    /* Relaxed: only the count of what was taken matters, and a bell too many does no harm. */
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) == ring->tail_local)
        return false;
    return wake_sleeper(ring);
}

bool ph_ring_is_asleep(const struct ph_ring *ring)
{
    return atomic_load_explicit(&ring->sleeping, memory_order_relaxed) != 0; /* relaxed: a hint */
}

void ph_ring_wake(struct ph_ring *ring)
{
    /* Release: what the caller did before is visible to the consumer that wakes. */
    atomic_store_explicit(&ring->sleeping, 0, memory_order_release);
    bell_ring(ring);
}

/* --- Consumer --- */

bool ph_ring_pop(struct ph_ring *ring, struct ph_msg *msg)
{
    /* Relaxed: nobody else writes the head. */
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_cached) {
        /* Acquire: the slots up to this tail are readable. */
        ring->tail_cached = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_cached)
            return false;
    }
    *msg = ring->slots[head & ring->mask];
    /* Release: our read of the slot comes before the producer may write it. */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

bool ph_ring_sleep(struct ph_ring *ring)
{
    /* Relaxed: nobody else writes the head. */
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head != ring->tail_cached)
        return false;
    /* Sequentially consistent: must not pass the look at the tail below. */
    atomic_store_explicit(&ring->sleeping, 1, memory_order_seq_cst);
    ring->tail_cached = atomic_load_explicit(&ring->tail, memory_order_seq_cst);
    if (head == ring->tail_cached)
        return true;
    /* Relaxed: only takes the request for a bell back. A producer that answered it already has
     * rung, and the next sleep ends at once. */
    atomic_store_explicit(&ring->sleeping, 0, memory_order_relaxed);
    return false;
}

void ph_ring_rise(struct ph_ring *ring)
{
    /* Relaxed: as the withdrawal in ph_ring_sleep(). */
    atomic_store_explicit(&ring->sleeping, 0, memory_order_relaxed);
}

void ph_ring_awake(struct ph_ring *ring)
{
    /* Acquire: pairs with the waker's release. */
    atomic_exchange_explicit(&ring->sleeping, 0, memory_order_acquire);
    uint64_t count;
    ssize_t n;
    do {
        n = read(ring->bell, &count, sizeof(count));
    } while (n < 0 && errno == EINTR);
    PH_ASSERT(n == (ssize_t)sizeof(count) || errno == EAGAIN); /* EAGAIN: woken by something else */
}
