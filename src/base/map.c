/*
 * map.c - open-addressing hash maps: 64-bit id -> pointer, connection id -> pointer; SipHash-2-4.
 *
 * The look-ups of the packet path: connection by its id, stream by its number. Both kinds of key
 * are chosen by peers, so both maps hash with SipHash under a random key of their own: nobody
 * outside can aim at one bucket. Invariants:
 * - cap is 0 or a power of two; at most three quarters of the slots are in use (live or deleted),
 *   so that a probe always ends;
 * - value NULL: never used since the last rehash, a probe stops there; value == DELETED: a probe
 *   goes on;
 * - only a put moves entries, which makes deleting during a walk safe.
 */
#include "base.h"

#define PH_MAP_MIN_CAP 8

struct ph_map_slot {
    uint64_t key;
    void *value;
};

#define PH_CID_MAX 20 /* RFC 9000 17.2 */

struct ph_cid_slot {
    uint8_t cid[PH_CID_MAX];
    uint32_t n;
    void *value;
};

static char deleted_mark;
#define DELETED ((void *)&deleted_mark)

/* --- SipHash --- */

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_rounds(struct sip *s, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        s->v0 += s->v1;
        s->v2 += s->v3;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v1;
        s->v0 += s->v3;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 = rotl(s->v2, 32);
    }
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_rounds(s, 2);
    s->v0 ^= word;
}

static inline uint64_t le64(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static inline struct sip sip_start(const uint8_t key[16])
{
    uint64_t k0 = le64(key, 8), k1 = le64(key + 8, 8);
    return (struct sip){
        .v0 = k0 ^ UINT64_C(0x736f6d6570736575),
        .v1 = k1 ^ UINT64_C(0x646f72616e646f6d),
        .v2 = k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = k1 ^ UINT64_C(0x7465646279746573),
    };
}

static inline uint64_t sip_end(struct sip *s)
{
    s->v2 ^= 0xff;
    sip_rounds(s, 4);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t ph_siphash(const uint8_t key[16], const void *data, size_t n)
{
    struct sip s = sip_start(key);
    const uint8_t *p = data;
    size_t left = n;
    for (; left >= 8; left -= 8, p += 8)
        sip_word(&s, le64(p, 8));
    sip_word(&s, le64(p, left) | (uint64_t)n << 56);
    return sip_end(&s);
}

/* The same as ph_siphash() of the eight little-endian bytes of `v`. */
static uint64_t siphash_u64(const uint8_t key[16], uint64_t v)
{
    struct sip s = sip_start(key);
    sip_word(&s, v);
    sip_word(&s, (uint64_t)8 << 56);
    return sip_end(&s);
}

/* Capacity for the next rehash: room for `count` live entries and as many to come. */
static size_t next_cap(size_t count)
{
    size_t cap = PH_MAP_MIN_CAP;
    while (cap < count * 2)
        cap *= 2;
    return cap;
}

/* True when a put of a new key must rehash first. */
static bool is_crowded(size_t used, size_t cap)
{
    return cap == 0 || (used + 1) * 4 > cap * 3;
}

/* The values of either map's slots, for what does not look at keys. */
struct slot_row {
    void *first; /* value of slot 0 */
    size_t stride, cap;
    size_t *count, *used;
};

static void **value_at(const struct slot_row *row, size_t i)
{
    return (void **)(void *)((char *)row->first + i * row->stride);
}

/* Empties slot i, which is live; returns its value. */
static void *row_delete(const struct slot_row *row, size_t i)
{
    size_t mask = row->cap - 1;
    void *value = *value_at(row, i);
    *value_at(row, i) = DELETED;
    --*row->count;
    /* At the end of a run the marks serve nobody. */
    if (*value_at(row, (i + 1) & mask) == NULL) {
        for (; *value_at(row, i) == DELETED; i = (i - 1) & mask) {
            *value_at(row, i) = NULL;
            --*row->used;
        }
    }
    return value;
}

/* --- u64 map --- */

void ph_map_init(struct ph_map *map)
{
    *map = (struct ph_map){.slots = NULL};
}

void ph_map_fini(struct ph_map *map)
{
    ph_free(map->slots);
    ph_map_init(map);
}

/* Index of the key's slot, or the first free one on its way; `*found` says which. cap > 0. */
static size_t map_probe(const struct ph_map *map, uint64_t key, bool *found)
{
    size_t mask = map->cap - 1;
    size_t free_at = SIZE_MAX;
    size_t i = (size_t)siphash_u64(map->key, key) & mask;
    for (;; i = (i + 1) & mask) {
        const struct ph_map_slot *slot = &map->slots[i];
        if (slot->value == NULL)
            break;
        if (slot->value == DELETED) {
            if (free_at == SIZE_MAX)
                free_at = i;
        } else if (slot->key == key) {
            *found = true;
            return i;
        }
    }
    *found = false;
    return free_at != SIZE_MAX ? free_at : i;
}

static void map_rehash(struct ph_map *map)
{
    struct ph_map old = *map;
    bool found;
    if (old.cap == 0)
        ph_random(map->key, sizeof(map->key));
    map->cap = next_cap(old.count + 1);
    map->slots = ph_alloc(map->cap * sizeof(*map->slots));
    map->used = old.count;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].value != NULL && old.slots[i].value != DELETED)
            map->slots[map_probe(map, old.slots[i].key, &found)] = old.slots[i];
    }
    ph_free(old.slots);
}

void *ph_map_get(const struct ph_map *map, uint64_t key)
{
    bool found;
    if (map->count == 0)
        return NULL;
    size_t i = map_probe(map, key, &found);
    return found ? map->slots[i].value : NULL;
}

void ph_map_put(struct ph_map *map, uint64_t key, void *value)
{
    PH_ASSERT(value != NULL);
    bool found = false;
    size_t i = 0;
    if (map->cap > 0)
        i = map_probe(map, key, &found);
    if (!found && is_crowded(map->used, map->cap)) {
        map_rehash(map);
        i = map_probe(map, key, &found);
    }
    struct ph_map_slot *slot = &map->slots[i];
    if (!found) {
        map->count++;
        if (slot->value == NULL)
            map->used++;
    }
    *slot = (struct ph_map_slot){.key = key, .value = value};
}

void *ph_map_del(struct ph_map *map, uint64_t key)
{
    bool found;
    if (map->count == 0)
        return NULL;
    size_t i = map_probe(map, key, &found);
    if (!found)
        return NULL;
    struct slot_row row = {.first = &map->slots[0].value,
                           .stride = sizeof(*map->slots),
                           .cap = map->cap,
                           .count = &map->count,
                           .used = &map->used};
    return row_delete(&row, i);
}

bool ph_map_next(const struct ph_map *map, size_t *pos, uint64_t *key, void **value)
{
    for (; *pos < map->cap; (*pos)++) {
        const struct ph_map_slot *slot = &map->slots[*pos];
        if (slot->value == NULL || slot->value == DELETED)
            continue;
        if (key != NULL)
            *key = slot->key;
        if (value != NULL)
            *value = slot->value;
        (*pos)++;
        return true;
    }
    return false;
}

/* --- Connection id map --- */

void ph_cidmap_init(struct ph_cidmap *map)
{
    *map = (struct ph_cidmap){.slots = NULL};
    ph_random(map->key, sizeof(map->key));
}

void ph_cidmap_fini(struct ph_cidmap *map)
{
    ph_free(map->slots);
    *map = (struct ph_cidmap){.slots = NULL};
}

/* As map_probe(). */
static size_t cid_probe(const struct ph_cidmap *map, const void *cid, size_t n, bool *found)
{
    size_t mask = map->cap - 1;
    size_t free_at = SIZE_MAX;
    size_t i = (size_t)ph_siphash(map->key, cid, n) & mask;
    for (;; i = (i + 1) & mask) {
        const struct ph_cid_slot *slot = &map->slots[i];
        if (slot->value == NULL)
            break;
        if (slot->value == DELETED) {
            if (free_at == SIZE_MAX)
                free_at = i;
        } else if (slot->n == n && (n == 0 || memcmp(slot->cid, cid, n) == 0)) {
            *found = true;
            return i;
        }
    }
    *found = false;
    return free_at != SIZE_MAX ? free_at : i;
}

static void cidmap_rehash(struct ph_cidmap *map)
{
    struct ph_cidmap old = *map;
    bool found;
    map->cap = next_cap(old.count + 1);
    map->slots = ph_alloc(map->cap * sizeof(*map->slots));
    map->used = old.count;
    for (size_t i = 0; i < old.cap; i++) {
        const struct ph_cid_slot *slot = &old.slots[i];
        if (slot->value != NULL && slot->value != DELETED)
            map->slots[cid_probe(map, slot->cid, slot->n, &found)] = *slot;
    }
    ph_free(old.slots);
}

void *ph_cidmap_get(const struct ph_cidmap *map, const void *cid, size_t n)
{
    bool found;
    if (map->count == 0 || n > PH_CID_MAX) /* other QUIC versions allow longer ones */
        return NULL;
    size_t i = cid_probe(map, cid, n, &found);
    return found ? map->slots[i].value : NULL;
}

void ph_cidmap_put(struct ph_cidmap *map, const void *cid, size_t n, void *value)
{
    PH_ASSERT(value != NULL && n <= PH_CID_MAX);
    bool found = false;
    size_t i = 0;
    if (map->cap > 0)
        i = cid_probe(map, cid, n, &found);
    if (!found && is_crowded(map->used, map->cap)) {
        cidmap_rehash(map);
        i = cid_probe(map, cid, n, &found);
    }
    struct ph_cid_slot *slot = &map->slots[i];
    if (!found) {
        map->count++;
        if (slot->value == NULL)
            map->used++;
        if (n > 0)
            memcpy(slot->cid, cid, n);
        slot->n = (uint32_t)n;
    }
    slot->value = value;
}

void *ph_cidmap_del(struct ph_cidmap *map, const void *cid, size_t n)
{
    bool found;
    if (map->count == 0 || n > PH_CID_MAX)
        return NULL;
    size_t i = cid_probe(map, cid, n, &found);
    if (!found)
        return NULL;
    struct slot_row row = {.first = &map->slots[0].value,
                           .stride = sizeof(*map->slots),
                           .cap = map->cap,
                           .count = &map->count,
                           .used = &map->used};
    return row_delete(&row, i);
}
