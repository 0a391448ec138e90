/* test_map.c - SipHash vectors, both maps against models, and chosen keys that must not cluster. */
#include "test.h"

/* Key 00..0f, input 00..n-1, as in the paper's reference table. */
TEST(map, siphash_gives_the_published_vectors)
{
    static const struct {
        size_t n;
        uint64_t hash;
    } vectors[] = {
        {0, UINT64_C(0x726fdb47dd0e0e31)},  {1, UINT64_C(0x74f839c593dc67fd)},
        {2, UINT64_C(0x0d6c8009d9a94f5a)},  {3, UINT64_C(0x85676696d7fb7e2d)},
        {7, UINT64_C(0xab0200f58b01d137)},  {8, UINT64_C(0x93f5f5799a932462)},
        {15, UINT64_C(0xa129ca6149be45e5)}, {63, UINT64_C(0x958a324ceb064572)},
    };
    uint8_t key[16], data[64];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    memcpy(key, data, sizeof(key));
    for (size_t i = 0; i < PH_COUNT_OF(vectors); i++)
        CHECK(ph_siphash(key, data, vectors[i].n) == vectors[i].hash);
}

static int values[2048];

TEST(map, zeroed_map_is_empty)
{
    struct ph_map map = {0};
    size_t pos = 0;
    CHECK(ph_map_get(&map, 0) == NULL);
    CHECK(ph_map_del(&map, 0) == NULL);
    CHECK(!ph_map_next(&map, &pos, NULL, NULL));
    ph_map_put(&map, 0, &values[1]);
    CHECK(ph_map_get(&map, 0) == &values[1]);
    ph_map_fini(&map);
}

TEST(map, put_replaces_and_del_returns_the_value)
{
    struct ph_map map;
    ph_map_init(&map);
    ph_map_put(&map, UINT64_MAX, &values[0]);
    ph_map_put(&map, UINT64_MAX, &values[1]);
    CHECK_INT(map.count, ==, 1);
    CHECK(ph_map_del(&map, UINT64_MAX) == &values[1]);
    CHECK(ph_map_del(&map, UINT64_MAX) == NULL);
    CHECK_INT(map.count, ==, 0);
    ph_map_fini(&map);
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

TEST(map, agrees_with_an_array_under_random_use)
{
    static void *model[512];
    struct ph_map map;
    uint64_t state = ph_test_seed();
    size_t count = 0;
    memset(model, 0, sizeof(model));
    ph_map_init(&map);
    for (int step = 0; step < 200000; step++) {
        uint64_t key = next_random(&state) % PH_COUNT_OF(model);
        void *value = &values[next_random(&state) % PH_COUNT_OF(values)];
        if (next_random(&state) % 2 == 0) {
            count += model[key] == NULL;
            ph_map_put(&map, key << 40, value);
            model[key] = value;
        } else {
            count -= model[key] != NULL;
            CHECK(ph_map_del(&map, key << 40) == model[key]);
            model[key] = NULL;
        }
        uint64_t other = next_random(&state) % PH_COUNT_OF(model);
        CHECK(ph_map_get(&map, other << 40) == model[other]);
        CHECK_INT(map.count, ==, count);
    }
    ph_map_fini(&map);
}

TEST(map, walk_visits_each_entry_once_though_each_is_deleted)
{
    struct ph_map map;
    bool seen[1000] = {false};
    size_t pos = 0, count = 0;
    uint64_t key;
    void *value;
    ph_map_init(&map);
    for (uint64_t i = 0; i < 1000; i++)
        ph_map_put(&map, i * 4, &values[i]);
    while (ph_map_next(&map, &pos, &key, &value)) {
        CHECK(key % 4 == 0 && key / 4 < 1000 && !seen[key / 4]);
        CHECK(value == &values[key / 4]);
        seen[key / 4] = true;
        count++;
        CHECK(ph_map_del(&map, key) == value);
    }
    CHECK_INT(count, ==, 1000);
    CHECK_INT(map.count, ==, 0);
    CHECK_INT(map.used, ==, 0); /* no marks are left behind in an empty map */
    ph_map_fini(&map);
}

TEST(map, churn_of_ever_new_keys_does_not_grow_it)
{
    struct ph_map map;
    ph_map_init(&map);
    for (uint64_t i = 0; i < 100000; i++) {
        ph_map_put(&map, i, &values[0]);
        if (i >= 50)
            CHECK(ph_map_del(&map, i - 50) != NULL);
    }
    CHECK_INT(map.count, ==, 50);
    CHECK_INT(map.cap, <=, 256);
    ph_map_fini(&map);
}

/* How far each entry of the table sits from where its hash wants it. */
static size_t worst_distance(const struct ph_map *map, double *mean)
{
    size_t pos = 0, worst = 0;
    uint64_t key;
    double sum = 0;
    while (ph_map_next(map, &pos, &key, NULL)) {
        uint8_t bytes[8];
        for (int i = 0; i < 8; i++)
            bytes[i] = (uint8_t)(key >> (8 * i));
        size_t home = (size_t)ph_siphash(map->key, bytes, 8) & (map->cap - 1);
        size_t distance = (pos - 1 - home) & (map->cap - 1);
        worst = PH_MAX(worst, distance);
        sum += (double)distance;
    }
    *mean = sum / (double)map->count;
    return worst;
}

/* Linear probing at load a has a mean distance of a / (2 (1 - a)): 1.5 at three quarters. The worst
 * of 1e5 is below 200 in practice; identical buckets would make it 1e5. */
static void check_chosen(uint64_t first, uint64_t step)
{
    struct ph_map map;
    double mean;
    ph_map_init(&map);
    for (uint64_t i = 0; i < 100000; i++)
        ph_map_put(&map, first + i * step, &values[0]);
    CHECK_INT(map.count, ==, 100000);
    size_t worst = worst_distance(&map, &mean);
    CHECK_INT(worst, <, 1000);
    CHECK(mean < 2.0);
    ph_map_fini(&map);
}

TEST(map, chosen_ids_do_not_share_buckets)
{
    check_chosen(0, 4);                    /* stream ids as they come */
    check_chosen(0, UINT64_C(1) << 18);    /* equal low bits, more than any mask here */
    check_chosen(3, UINT64_C(1) << 32);    /* equal low halves */
    check_chosen(1, UINT64_C(0x9e3779b1)); /* stepped by a popular multiplier */
}

TEST(map, two_maps_hash_apart)
{
    struct ph_map a = {0}, b = {0};
    ph_map_put(&a, 1, &values[0]);
    ph_map_put(&b, 1, &values[0]);
    CHECK(memcmp(a.key, b.key, sizeof(a.key)) != 0);
    ph_map_fini(&a);
    ph_map_fini(&b);
}

/* --- Connection ids --- */

TEST(cidmap, lengths_are_part_of_the_id)
{
    struct ph_cidmap map;
    uint8_t cid[20] = {0};
    ph_cidmap_init(&map);
    for (size_t n = 0; n <= sizeof(cid); n++)
        ph_cidmap_put(&map, cid, n, &values[n]);
    CHECK_INT(map.count, ==, 21);
    for (size_t n = 0; n <= sizeof(cid); n++)
        CHECK(ph_cidmap_get(&map, cid, n) == &values[n]);
    CHECK(ph_cidmap_get(&map, NULL, 0) == &values[0]);
    for (size_t n = 0; n <= sizeof(cid); n++)
        CHECK(ph_cidmap_del(&map, cid, n) == &values[n]);
    CHECK_INT(map.count, ==, 0);
    ph_cidmap_fini(&map);
}

TEST(cidmap, ids_longer_than_any_of_ours_are_not_found)
{
    struct ph_cidmap map;
    uint8_t cid[255] = {0};
    ph_cidmap_init(&map);
    CHECK(ph_cidmap_get(&map, cid, 8) == NULL);
    CHECK(ph_cidmap_del(&map, cid, 8) == NULL);
    ph_cidmap_put(&map, cid, 20, &values[0]);
    CHECK(ph_cidmap_get(&map, cid, 21) == NULL);
    CHECK(ph_cidmap_del(&map, cid, 255) == NULL);
    ph_cidmap_put(&map, cid, 20, &values[1]);
    CHECK_INT(map.count, ==, 1);
    CHECK(ph_cidmap_get(&map, cid, 20) == &values[1]);
    ph_cidmap_fini(&map);
}

static void cid_of(uint8_t cid[8], uint32_t i)
{
    memset(cid, 0x77, 8);
    ph_u32_put(cid, i * 65536 + i);
}

TEST(cidmap, finds_and_deletes_1e5_chosen_ids)
{
    struct ph_cidmap map;
    uint8_t cid[8];
    ph_cidmap_init(&map);
    for (uint32_t i = 0; i < 100000; i++) {
        cid_of(cid, i);
        ph_cidmap_put(&map, cid, sizeof(cid), &values[i % 2048]);
    }
    static uint8_t depth[1 << 18];
    size_t worst = 0;
    CHECK_INT(map.cap, <=, sizeof(depth));
    memset(depth, 0, sizeof(depth));
    for (uint32_t i = 0; i < 100000; i++) {
        cid_of(cid, i);
        CHECK(ph_cidmap_get(&map, cid, sizeof(cid)) == &values[i % 2048]);
        size_t bucket = (size_t)ph_siphash(map.key, cid, sizeof(cid)) & (map.cap - 1);
        worst = PH_MAX(worst, (size_t)++depth[bucket]);
    }
    CHECK_INT(worst, <, 20);
    for (uint32_t i = 0; i < 100000; i += 2) {
        cid_of(cid, i);
        CHECK(ph_cidmap_del(&map, cid, sizeof(cid)) == &values[i % 2048]);
    }
    for (uint32_t i = 0; i < 100000; i++) {
        cid_of(cid, i);
        CHECK((ph_cidmap_get(&map, cid, sizeof(cid)) != NULL) == (i % 2 == 1));
    }
    ph_cidmap_fini(&map);
}
