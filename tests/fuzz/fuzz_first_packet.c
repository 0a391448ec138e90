/*
 * fuzz_first_packet.c - what strangers send to a server's UDP port.
 *
 * The input is a list of records: one control byte, two bytes of length, the payload. Control bit 0
 * pads the payload to 1200 bytes with zeros, bit 1 takes another source address, bit 2 lets 300 ms
 * pass first. Promises checked: never more than three times the received bytes go out to an address
 * (nobody here can validate one: tokens need the secret), state is bounded by what arrived, and
 * everything is gone at the end.
 */
#include "../../src/quic/quic.h"
#include "../../src/tls/tls.h"

#include <stdlib.h>
#include <unistd.h>

enum { PEERS = 2, RECORDS = 64, DATAGRAM = 1500 };

static struct ph_tls_cred *cred;

struct world {
    uint64_t in[PEERS], out[PEERS]; /* bytes */
    uint64_t rand;
};

static ssize_t on_send(void *self, const struct ph_path *path, uint8_t ecn, const uint8_t *data,
                       size_t n, size_t segment)
{
    struct world *world = self;
    (void)ecn;
    (void)data;
    PH_ASSERT(n > 0 && segment > 0);
    world->out[ph_addr_port(&path->remote) - 1000] += n;
    return (ssize_t)n;
}

static void on_rand(void *ctx, void *out, size_t n)
{
    struct world *world = ctx;
    uint8_t *p = out;
    for (size_t i = 0; i < n; i++) {
        world->rand = world->rand * 6364136223846793005u + 1442695040888963407u;
        p[i] = (uint8_t)(world->rand >> 56);
    }
}

/* Nobody can get through a handshake: its owner must never hear of a connection. */
static void on_conn(void *self, struct ph_quic_conn *conn)
{
    (void)self;
    (void)conn;
}

static void on_closed(void *self, struct ph_quic_conn *conn, const struct ph_quic_end *end)
{
    (void)self;
    (void)conn;
    (void)end;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char dir[] = P_tmpdir "/ph-fuzz-XXXXXX", cert[512], key[512], err[512];
    uint8_t sha256[32];
    (void)argc;
    (void)argv;
    if (mkdtemp(dir) == NULL || ph_dev_certificate(dir, cert, sizeof(cert), key, sizeof(key),
                                                   sha256, err, sizeof(err)) != PH_OK)
        abort();
    if (ph_tls_cred_load(&cred, &(struct ph_tls_cred_options){.cert_path = cert, .key_path = key},
                         NULL) != PH_OK)
        abort();
    unlink(cert);
    unlink(key);
    rmdir(dir);
    return 0;
}

static void run(struct ph_quic_endpoint *ep, struct world *world, const uint8_t *data, size_t size)
{
    struct ph_path path = {.sock = world};
    uint64_t now = PH_SEC;
    size_t conns = 0;
    ph_addr_parse(&path.local, "127.0.0.1", 4433);
    for (int i = 0; i < RECORDS && size >= 3; i++) {
        uint8_t control = data[0], payload[DATAGRAM];
        size_t n = PH_MIN((size_t)ph_u16_get(data + 1), size - 3);
        n = PH_MIN(n, sizeof(payload));
        memset(payload, 0, sizeof(payload));
        memcpy(payload, data + 3, n);
        data += 3 + n;
        size -= 3 + n;
        if ((control & 1) != 0)
            n = PH_MAX(n, (size_t)1200);
        unsigned peer = (control >> 1) & 1;
        ph_addr_parse(&path.remote, "127.0.0.1", (uint16_t)(1000 + peer));
        now += (control & 4) != 0 ? 300 * PH_MSEC : 0;
        world->in[peer] += n;
        ph_quic_endpoint_expire(ep, now);
        ph_quic_endpoint_feed(ep, &path, 0, payload, n, now);
        ph_quic_endpoint_flush(ep, now);
        ph_quic_endpoint_reap(ep);
        conns++;
        PH_ASSERT(ph_quic_endpoint_conns(ep) <= conns);
        PH_ASSERT(world->out[peer] <= 3 * world->in[peer]);
    }
    for (int i = 0; i < 40; i++) { /* retransmissions, then the handshake timeout */
        now += 300 * PH_MSEC;
        ph_quic_endpoint_expire(ep, now);
        ph_quic_endpoint_flush(ep, now);
        ph_quic_endpoint_reap(ep);
    }
    for (int i = 0; i < PEERS; i++)
        PH_ASSERT(world->out[i] <= 3 * world->in[i]);
    PH_ASSERT(ph_quic_endpoint_conns(ep) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world = {.rand = 1};
    struct ph_stats stats = {0};
    struct ph_quic_config config;
    struct ph_quic_sink sink = {
        .self = &world, .on_ready = on_conn, .on_handshake_done = on_conn, .on_closed = on_closed};
    struct ph_quic_out out = {.self = &world, .send = on_send};
    struct ph_quic_endpoint *ep = NULL;
    if (cred == NULL)
        LLVMFuzzerInitialize(NULL, NULL);
    ph_quic_config_default(&config);
    config.cred = cred;
    config.rand = on_rand;
    config.rand_ctx = &world;
    config.always_retry = size > 0 && (data[0] & 0x80) != 0;
    if (ph_quic_endpoint_new(&ep, &config, &sink, &out, &stats, PH_SEC, NULL) != PH_OK)
        abort();
    run(ep, &world, data, size);
    ph_quic_endpoint_free(ep);
    PH_ASSERT(ph_live_get(PH_LIVE_QUIC_CONN) == 0);
    PH_ASSERT(ph_live_get(PH_LIVE_TLS_SESSION) == 0);
    return 0;
}
