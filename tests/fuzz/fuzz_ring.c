/*
 * fuzz_ring.c - a script of ring operations against a model that is three counters and two flags.
 *
 * Input: the first byte gives the size (2 to 32 slots), each further byte one operation. Producer
 * and consumer take turns in one thread, so that every answer is known exactly.
 */
#include "../../src/base/base.h"

#include <poll.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct model {
    uint64_t pushed, published, popped;
    uint64_t slots;
    bool sleeping; /* the consumer asked for a bell */
    bool ringing;  /* the bell is up */
};

static bool is_ringing(const struct ph_ring *ring)
{
    struct pollfd fd = {.fd = ring->bell, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void push(struct ph_ring *ring, struct model *m)
{
    struct ph_msg msg = {.kind = (uint16_t)m->pushed, .a = m->pushed, .c = ~m->pushed};
    bool fits = m->pushed - m->popped < m->slots;
    PH_ASSERT(ph_ring_push(ring, &msg) == fits);
    m->pushed += fits;
}

static void publish(struct ph_ring *ring, struct model *m)
{
    bool rings = m->sleeping && m->pushed != m->published;
    PH_ASSERT(ph_ring_publish(ring) == rings);
    m->published = m->pushed;
    if (rings) {
        m->sleeping = false;
        m->ringing = true;
    }
}

static void pop(struct ph_ring *ring, struct model *m)
{
    struct ph_msg msg = {.kind = 0};
    bool some = m->popped < m->published;
    PH_ASSERT(ph_ring_pop(ring, &msg) == some);
    if (!some)
        return;
    PH_ASSERT(msg.a == m->popped && msg.c == ~m->popped && msg.kind == (uint16_t)m->popped);
    m->popped++;
}

static void sleep_down(struct ph_ring *ring, struct model *m)
{
    bool empty = m->popped == m->published;
    PH_ASSERT(ph_ring_sleep(ring) == empty);
    /* With messages at hand a sleep that was declared before stays declared or is taken back; the
     * consumer is awake by contract, so the script wakes it. */
    if (!empty) {
        ph_ring_awake(ring);
        m->ringing = false;
    }
    m->sleeping = empty;
}

static void step(struct ph_ring *ring, struct model *m, uint8_t op)
{
    switch (op % 8) {
    case 0:
    case 1:
        push(ring, m);
        break;
    case 2:
        publish(ring, m);
        break;
    case 3:
    case 4:
        pop(ring, m);
        break;
    case 5:
        sleep_down(ring, m);
        break;
    case 6:
        ph_ring_awake(ring);
        m->sleeping = m->ringing = false;
        break;
    case 7:
        if (op >= 128) {
            ph_ring_wake(ring);
            m->sleeping = false;
            m->ringing = true;
        } else {
            PH_ASSERT(ph_ring_room(ring) == m->slots - (m->pushed - m->popped));
        }
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ph_ring ring;
    struct model m = {.slots = size > 0 ? UINT64_C(2) << data[0] % 5 : 2};
    PH_ASSERT(ph_ring_init(&ring, (uint32_t)m.slots) == PH_OK);
    /* Close to the end of the index range, so that scripts of a few bytes pass it. */
    uint32_t start = UINT32_MAX - 20;
    ring.head = ring.tail = ring.tail_local = ring.head_cached = ring.tail_cached = start;
    for (size_t i = 1; i < size; i++) {
        step(&ring, &m, data[i]);
        PH_ASSERT(is_ringing(&ring) == m.ringing);
    }
    ph_ring_fini(&ring);
    return 0;
}
