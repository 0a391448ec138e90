/*
 * quic_heap.c - binary heap of connections by the time they want attention.
 *
 * Each connection knows its slot (1-based, 0: not in the heap), so that moving or removing it costs
 * O(log n). Only connections are in it: one entry for loss recovery, pacing, idle timeout, closing
 * periods and waiting resets together.
 */
#include "quic_internal.h"

static void place(struct ph_quic_heap *heap, size_t i, struct ph_quic_conn *conn)
{
    heap->items[i] = conn;
    conn->heap_slot = i + 1;
}

static void sift_up(struct ph_quic_heap *heap, size_t i)
{
    struct ph_quic_conn *conn = heap->items[i];
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (heap->items[parent]->expiry <= conn->expiry)
            break;
        place(heap, i, heap->items[parent]);
        i = parent;
    }
    place(heap, i, conn);
}

static void sift_down(struct ph_quic_heap *heap, size_t i)
{
    struct ph_quic_conn *conn = heap->items[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->items[child + 1]->expiry < heap->items[child]->expiry)
            child++;
        if (heap->items[child]->expiry >= conn->expiry)
            break;
        place(heap, i, heap->items[child]);
        i = child;
    }
    place(heap, i, conn);
}

void ph_quic_heap_set(struct ph_quic_heap *heap, struct ph_quic_conn *conn, uint64_t at)
{
    if (at == PH_NEVER) {
        ph_quic_heap_remove(heap, conn);
        conn->expiry = at;
        return;
    }
    if (conn->heap_slot == 0) {
        if (heap->count == heap->cap) {
            heap->cap = heap->cap == 0 ? 16 : heap->cap * 2;
            heap->items = ph_realloc(heap->items, heap->cap * sizeof(struct ph_quic_conn *));
        }
        conn->expiry = at;
        place(heap, heap->count, conn);
        heap->count++;
        sift_up(heap, heap->count - 1);
        return;
    }
    uint64_t before = conn->expiry;
    conn->expiry = at;
    if (at < before)
        sift_up(heap, conn->heap_slot - 1);
    else
        sift_down(heap, conn->heap_slot - 1);
}

void ph_quic_heap_remove(struct ph_quic_heap *heap, struct ph_quic_conn *conn)
{
    if (conn->heap_slot == 0)
        return;
    size_t i = conn->heap_slot - 1;
    conn->heap_slot = 0;
    heap->count--;
    struct ph_quic_conn *last = heap->items[heap->count];
    if (last == conn)
        return;
    place(heap, i, last);
    sift_up(heap, i);
    sift_down(heap, last->heap_slot - 1);
}

struct ph_quic_conn *ph_quic_heap_top(const struct ph_quic_heap *heap)
{
    return heap->count == 0 ? NULL : heap->items[0];
}

void ph_quic_heap_fini(struct ph_quic_heap *heap)
{
    ph_free(heap->items);
    *heap = (struct ph_quic_heap){0};
}
