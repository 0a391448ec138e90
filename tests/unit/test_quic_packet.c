/* test_quic_packet.c - where coalesced packets end, which worker an id names, what a payload's
 * frames say, and the expiry heap. */
#include "test.h"

#include "../../src/quic/quic_internal.h"

/* --- Coalesced packets --- */

/* A long-header packet of `payload` bytes behind its length; returns the end. */
static uint8_t *long_packet(uint8_t *p, uint8_t first, uint32_t version, const char *dcid,
                            size_t payload)
{
    size_t n = strlen(dcid);
    bool v2 = version == NGTCP2_PROTO_VER_V2;
    bool initial = ((first >> 4) & 3) == (v2 ? 1 : 0);
    *p++ = first;
    p = ph_u32_put(p, version);
    *p++ = (uint8_t)n;
    memcpy(p, dcid, n);
    p += n;
    *p++ = 3;
    memcpy(p, "abc", 3);
    p += 3;
    if (initial) {
        *p++ = 2; /* token */
        *p++ = 0;
        *p++ = 0;
    }
    p = ph_varint_put(p, payload);
    memset(p, 7, payload);
    return p + payload;
}

static size_t coalesced(const uint8_t *data, const uint8_t *end, const char *dcid)
{
    return ph_quic_coalesced_len(data, (size_t)(end - data), (const uint8_t *)dcid, strlen(dcid));
}

TEST(quic_packet, packets_with_one_id_stay_together)
{
    static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2};
    for (int i = 0; i < 2; i++) {
        uint8_t data[600];
        uint8_t initial = i == 0 ? 0xc0 : 0xd0, handshake = i == 0 ? 0xe0 : 0xf0;
        uint8_t *end = long_packet(data, initial, versions[i], "01234567", 100);
        end = long_packet(end, handshake, versions[i], "01234567", 70);
        *end++ = 0x40; /* a short header takes the rest */
        memcpy(end, "01234567rest", 12);
        end += 12;
        CHECK_INT(coalesced(data, end, "01234567"), ==, end - data);
    }
}

TEST(quic_packet, what_follows_another_id_is_cut_off)
{
    uint8_t data[600];
    uint8_t *first = long_packet(data, 0xc0, 1, "01234567", 100);
    uint8_t *second = long_packet(first, 0xe0, 1, "0123456x", 50);
    CHECK_INT(coalesced(data, second, "01234567"), ==, first - data);
    second = long_packet(first, 0xe0, 1, "0123456", 50); /* a shorter one */
    CHECK_INT(coalesced(data, second, "01234567"), ==, first - data);
    *first = 0x40;
    memcpy(first + 1, "9876543210", 10);
    CHECK_INT(coalesced(data, first + 11, "01234567"), ==, first - data);
    *first = 0x40; /* too short to hold an id */
    CHECK_INT(coalesced(data, first + 4, "01234567"), ==, first - data);
}

TEST(quic_packet, zeros_behind_the_last_packet_are_padding)
{
    uint8_t data[1200] = {0};
    long_packet(data, 0xc0, 1, "01234567", 500);
    CHECK_INT(coalesced(data, data + sizeof(data), "01234567"), ==, 1200);
}

TEST(quic_packet, a_length_that_lies_takes_the_rest_and_no_more)
{
    uint8_t data[600];
    uint8_t *end = long_packet(data, 0xe0, 1, "01234567", 100);
    for (const uint8_t *cut = data + 1 + 4 + 1 + 8; cut < end; cut++)
        CHECK_INT(coalesced(data, cut, "01234567"), <=, cut - data);
    CHECK_INT(coalesced(data, end - 1, "01234567"), ==, end - 1 - data);
    end = long_packet(data, 0xf0, 1, "01234567", 100); /* Retry has no length */
    CHECK_INT(coalesced(data, end, "01234567"), ==, end - data);
}

TEST(quic_packet, the_worker_is_read_from_ids_of_our_length_only)
{
    uint8_t data[100] = {0x40, 0x01, 0x02};
    CHECK_INT(ph_quic_packet_worker(data, 1 + PH_QUIC_CID_LEN), ==, 0x102);
    CHECK_INT(ph_quic_packet_worker(data, PH_QUIC_CID_LEN), ==, -1);
    CHECK_INT(ph_quic_packet_worker(data, 0), ==, -1);
    char id[PH_QUIC_CID_LEN + 1] = "ABxxxxxxxxxxxxxxxx";
    uint8_t *end = long_packet(data, 0xe0, 1, id, 20);
    CHECK_INT(ph_quic_packet_worker(data, (size_t)(end - data)), ==, 'A' * 256 + 'B');
    CHECK_INT(ph_quic_packet_worker(data, 10), ==, -1);
    end = long_packet(data, 0xe0, 77, id, 20); /* another version may lay ids out differently */
    CHECK_INT(ph_quic_packet_worker(data, (size_t)(end - data)), ==, -1);
    end = long_packet(data, 0xc0, 1, "01234567", 20); /* the client's choice */
    CHECK_INT(ph_quic_packet_worker(data, (size_t)(end - data)), ==, -1);
}

/* --- Frames --- */

struct seen {
    uint64_t type[16], id[16], value[16];
    unsigned count;
};

static void on_value(void *self, uint64_t type, uint64_t id, uint64_t value)
{
    struct seen *seen = self;
    if (seen->count < PH_COUNT_OF(seen->type)) {
        seen->type[seen->count] = type;
        seen->id[seen->count] = id;
        seen->value[seen->count] = value;
    }
    seen->count++;
}

static unsigned scan(struct seen *seen, const char *bytes, size_t n)
{
    struct ph_quic_scan s = {.self = seen, .on_value = on_value};
    *seen = (struct seen){.count = 0};
    ph_quic_scan_frames(&s, (const uint8_t *)bytes, n);
    return s.idle;
}
#define SCAN(bytes) scan(&seen, bytes, sizeof(bytes) - 1)

TEST(quic_frames, stops_and_credits_are_found_between_all_other_frames)
{
    struct seen seen;
    unsigned idle = SCAN("\x00\x00"                             /* PADDING */
                         "\x02\x05\x00\x01\x02\x01\x01"         /* ACK, one more range */
                         "\x03\x05\x00\x00\x02\x01\x02\x03"     /* ACK with ECN */
                         "\x06\x00\x03xyz"                      /* CRYPTO */
                         "\x07\x02tk"                           /* NEW_TOKEN */
                         "\x04\x04\x05\x06"                     /* RESET_STREAM */
                         "\x05\x08\x40\x64"                     /* STOP_SENDING 8, 100 */
                         "\x0e\x04\x01\x02hi"                   /* STREAM, offset, length */
                         "\x10\x20"                             /* MAX_DATA */
                         "\x11\x04\x21"                         /* MAX_STREAM_DATA */
                         "\x12\x22\x13\x23"                     /* MAX_STREAMS */
                         "\x14\x24\x15\x04\x25\x16\x26\x17\x27" /* BLOCKED */
                         "\x18\x01\x00\x04"                     /* NEW_CONNECTION_ID */
                         "cidX0123456789abcdef"                 /* its id and token */
                         "\x19\x01\x1b"                         /* RETIRE, PATH_RESPONSE */
                         "01234567\x1e"                         /* HANDSHAKE_DONE */
                         "\x31\x02hi"                           /* DATAGRAM */
                         "\x05\x0c\x09"                         /* STOP_SENDING 12, 9 */
                         "\x30 the rest, \x05\x00\x00");
    CHECK_INT(idle, ==, 0);
    CHECK_INT(seen.count, ==, 10);
    CHECK_INT(seen.type[0], ==, 5);
    CHECK_INT(seen.id[0], ==, 8);
    CHECK_INT(seen.value[0], ==, 100);
    CHECK_INT(seen.type[1], ==, 0x10);
    CHECK_INT(seen.value[1], ==, 0x20);
    CHECK_INT(seen.id[2], ==, 4);
    CHECK_INT(seen.value[2], ==, 0x21);
    CHECK_INT(seen.type[8], ==, 0x17);
    CHECK_INT(seen.value[8], ==, 0x27);
    CHECK_INT(seen.id[9], ==, 12);
    CHECK_INT(seen.value[9], ==, 9);
}

TEST(quic_frames, frames_without_progress_are_counted)
{
    struct seen seen;
    CHECK_INT(SCAN("\x01\x01\x00\x01"), ==, 3); /* PING */
    CHECK_INT(SCAN("\x1a"
                   "01234567"),
              ==, 1);                           /* PATH_CHALLENGE */
    CHECK_INT(SCAN("\x0e\x04\x09\x00"), ==, 1); /* empty STREAM in the middle */
    CHECK_INT(SCAN("\x0f\x04\x09\x00"), ==, 0); /* with FIN */
    CHECK_INT(SCAN("\x0a\x04\x00"), ==, 0);     /* at the start: may open it */
    CHECK_INT(seen.count, ==, 0);
    CHECK_INT(SCAN("\x08\x04 the rest"), ==, 0);
}

TEST(quic_frames, an_end_of_a_stream_is_told_with_its_place)
{
    struct seen seen;
    SCAN("\x0f\x04\x09\x02hi\x0b\x08\x00\x09\x0c rest");
    CHECK_INT(seen.count, ==, 3);
    CHECK_INT(seen.type[0], ==, PH_QUIC_STREAM);
    CHECK_INT(seen.id[0], ==, 4);
    CHECK_INT(seen.value[0], ==, 9);
    CHECK_INT(seen.id[1], ==, 8);
    CHECK_INT(seen.value[1], ==, 0);
    CHECK_INT(seen.id[2], ==, 12);
    SCAN("\x0f\x04\x09\x03hi"); /* longer than the packet */
    CHECK_INT(seen.count, ==, 0);
}

TEST(quic_frames, a_cut_payload_ends_the_scan_anywhere)
{
    static const char all[] = "\x05\x08\x40\x64\x03\x05\x00\x00\x02\x01\x02\x03\x06\x00\x03xyz"
                              "\x18\x01\x00\x04"
                              "cidX0123456789abcdef\x1b"
                              "01234567\x31\x02hi\x05\x0c\x09";
    struct seen seen;
    for (size_t n = 0; n < sizeof(all) - 1; n++) {
        scan(&seen, all, n);
        CHECK_INT(seen.count, ==, n >= 4 ? 1 : 0);
    }
    scan(&seen, all, sizeof(all) - 1);
    CHECK_INT(seen.count, ==, 2);
    /* Counts that promise more than there is, and an unknown type. */
    SCAN("\x02\x05\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01\x05\x00\x00");
    CHECK_INT(seen.count, ==, 0);
    SCAN("\x06\x00\xff\xff\xff\xff\xff\xff\xff\xff\x05\x00\x00");
    CHECK_INT(seen.count, ==, 0);
    SCAN("\x7f\xff\x05\x00\x00");
    CHECK_INT(seen.count, ==, 0);
}

/* --- Heap --- */

TEST(quic_heap, gives_the_earliest_through_every_change)
{
    enum { N = 200 };
    static struct ph_quic_conn conns[N];
    struct ph_quic_heap heap = {0};
    uint64_t state = 12345;
    memset(conns, 0, sizeof(conns));
    for (int i = 0; i < N; i++)
        conns[i].expiry = PH_NEVER;
    for (int round = 0; round < 5000; round++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        struct ph_quic_conn *conn = &conns[(state >> 33) % N];
        if ((state >> 20) % 4 == 0)
            ph_quic_heap_remove(&heap, conn);
        else
            ph_quic_heap_set(&heap, conn, (state >> 40) % 1000);
        const struct ph_quic_conn *top = ph_quic_heap_top(&heap);
        size_t inside = 0;
        for (int i = 0; i < N; i++) {
            inside += conns[i].heap_slot != 0;
            CHECK(conns[i].heap_slot == 0 || top->expiry <= conns[i].expiry);
        }
        CHECK_INT(inside, ==, heap.count);
    }
    for (int i = 0; i < N; i++)
        ph_quic_heap_set(&heap, &conns[i], PH_NEVER);
    CHECK(ph_quic_heap_top(&heap) == NULL);
    ph_quic_heap_fini(&heap);
}
