/* net.c - the simulated network; see net.h. */
#include "net.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <malloc.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct sim_packet {
    uint64_t at, number;
    struct ph_addr from, to;
    size_t n;
    uint8_t ecn;
    uint8_t data[];
};

/* --- Randomness --- */

/* splitmix64: small, and good enough to decide about packets. */
uint64_t sim_rng_next(struct sim_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n)
{
    return n == 0 ? 0 : sim_rng_next(rng) % n;
}

static bool happens(struct sim *sim, unsigned thousandths)
{
    return thousandths > 0 && sim_rng_below(&sim->rng, 1000) < thousandths;
}

static void node_rand(void *ctx, void *out, size_t n)
{
    struct sim_node *node = ctx;
    uint8_t *p = out;
    while (n > 0) {
        uint64_t value = sim_rng_next(&node->rng);
        size_t k = PH_MIN(n, sizeof(value));
        memcpy(p, &value, k);
        p += k;
        n -= k;
    }
}

static void trace(struct sim *sim, uint64_t value)
{
    sim->trace = (sim->trace ^ value) * 0x100000001b3u;
}

/* --- Packets under way --- */

static bool is_before(const struct sim_packet *a, const struct sim_packet *b)
{
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

static void heap_push(struct sim *sim, struct sim_packet *packet)
{
    if (sim->heap_count == sim->heap_cap) {
        sim->heap_cap = sim->heap_cap == 0 ? 64 : sim->heap_cap * 2;
        sim->heap = ph_realloc(sim->heap, sim->heap_cap * sizeof(struct sim_packet *));
    }
    size_t i = sim->heap_count++;
    while (i > 0 && is_before(packet, sim->heap[(i - 1) / 2])) {
        sim->heap[i] = sim->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->heap[i] = packet;
}

static struct sim_packet *heap_pop(struct sim *sim)
{
    struct sim_packet *top = sim->heap[0];
    struct sim_packet *last = sim->heap[--sim->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && is_before(sim->heap[child + 1], sim->heap[child]))
            child++;
        if (!is_before(sim->heap[child], last))
            break;
        sim->heap[i] = sim->heap[child];
        i = child;
    }
    sim->heap[i] = last;
    return top;
}

static void put_on_wire(struct sim_node *node, const struct ph_addr *to, uint8_t ecn,
                        const uint8_t *data, size_t n, uint64_t at)
{
    struct sim *sim = node->sim;
    struct sim_packet *packet = ph_alloc(sizeof(*packet) + n);
    *packet = (struct sim_packet){
        .at = at, .number = sim->number++, .from = node->public, .to = *to, .n = n, .ecn = ecn};
    memcpy(packet->data, data, n);
    if (n > 0 && happens(sim, node->link.corrupt)) {
        size_t where = sim_rng_below(&sim->rng, n);
        packet->data[where] ^= (uint8_t)(1 + sim_rng_below(&sim->rng, 255));
        trace(sim, where);
    }
    heap_push(sim, packet);
}

/* When the link's rate lets `n` bytes through; PH_NEVER when the queue is full. */
static uint64_t through_queue(struct sim_node *node, size_t n)
{
    const struct sim_link *link = &node->link;
    uint64_t now = node->sim->now;
    if (link->rate == 0)
        return now;
    uint64_t start = PH_MAX(now, node->link_free);
    if (link->queue > 0 && (start - now) * link->rate / PH_SEC > link->queue)
        return PH_NEVER;
    node->link_free = start + n * PH_SEC / link->rate;
    return node->link_free;
}

/* The mark with which a packet arrives (RFC 3168). */
static uint8_t ecn_on_link(struct sim_node *node, uint8_t ecn)
{
    if (node->link.bleach)
        return 0;
    if (ecn == 0 || !happens(node->sim, node->link.ce))
        return ecn;
    node->ce_marked++;
    return 3;
}

static void send_one(struct sim_node *node, const struct ph_addr *to, uint8_t ecn,
                     const uint8_t *data, size_t n)
{
    struct sim *sim = node->sim;
    const struct sim_link *link = &node->link;
    node->bytes_out += n;
    node->packets_out++;
    node->ecn_out[ecn & 3]++;
    node->largest_out = PH_MAX(node->largest_out, n);
    node->smallest_out = node->smallest_out == 0 ? n : PH_MIN(node->smallest_out, n);
    trace(sim, sim->now);
    trace(sim, n * SIM_NODES + node->index);
    if (sim->tap != NULL)
        sim->tap(sim->tap_self, node, data, n);
    bool dark = sim->now >= link->blackout_from && sim->now < link->blackout_to;
    uint64_t at = through_queue(node, n);
    if (dark || at == PH_NEVER || (link->mtu > 0 && n > link->mtu) || happens(sim, link->loss)) {
        trace(sim, 0xdead);
        return;
    }
    ecn = ecn_on_link(node, ecn);
    at += link->delay + sim_rng_below(&sim->rng, link->jitter);
    if (happens(sim, link->reorder))
        at += link->reorder_delay;
    put_on_wire(node, to, ecn, data, n, at);
    if (happens(sim, link->duplicate))
        put_on_wire(node, to, ecn, data, n, at + link->delay / 2);
}

static ssize_t node_send(void *self, const struct ph_path *path, uint8_t ecn, const uint8_t *data,
                         size_t n, size_t segment)
{
    struct sim_node *node = self;
    size_t sent = 0;
    PH_ASSERT(n > 0 && segment > 0 && segment <= 65527);
    node->sends++;
    while (sent < n) {
        size_t len = PH_MIN(segment, n - sent);
        if (node->limited && len > node->allowance)
            break;
        if (node->limited)
            node->allowance -= len;
        send_one(node, &path->remote, ecn, data + sent, len);
        sent += len;
    }
    return (ssize_t)sent;
}

/* --- Nodes --- */

struct sim *sim_new(uint64_t seed, const struct sim_link *link)
{
    struct sim *sim = ph_alloc(sizeof(*sim));
    sim->seed = seed;
    sim->rng.state = seed * 2 + 1;
    sim->now = 1000 * PH_SEC;
    for (int i = 0; i < SIM_NODES; i++) {
        sim->nodes[i] = ph_alloc(sizeof(struct sim_node));
        *sim->nodes[i] = (struct sim_node){
            .sim = sim, .index = (unsigned)i, .link = *link, .rng.state = seed * 31 + (unsigned)i};
    }
    return sim;
}

void sim_free(struct sim *sim)
{
    for (int i = 0; i < SIM_NODES; i++) {
        ph_quic_endpoint_free(sim->nodes[i]->ep);
        ph_free(sim->nodes[i]);
    }
    while (sim->heap_count > 0)
        ph_free(heap_pop(sim));
    ph_free(sim->heap);
    ph_free(sim);
}

static void node_start(struct sim_node *node, const struct ph_quic_config *config,
                       const struct ph_quic_sink *sink)
{
    struct ph_quic_config own = *config;
    struct ph_quic_out out = {.self = node, .send = node_send};
    struct ph_err err;
    own.rand = node_rand;
    own.rand_ctx = node;
    int rc = ph_quic_endpoint_new(&node->ep, &own, sink, &out, &node->stats, node->sim->now, &err);
    PH_ASSERT(rc == PH_OK);
}

static struct sim_node *node_add(struct sim *sim)
{
    PH_ASSERT(sim->nodes_count < SIM_NODES);
    struct sim_node *node = sim->nodes[sim->nodes_count++];
    char host[32];
    snprintf(host, sizeof(host), "10.0.0.%u", node->index + 1);
    PH_ASSERT(ph_addr_parse(&node->addr, host, 4433) == PH_OK);
    node->public = node->addr;
    return node;
}

struct sim_node *sim_node_new(struct sim *sim, const struct ph_quic_config *config,
                              const struct ph_quic_sink *sink)
{
    struct sim_node *node = node_add(sim);
    node_start(node, config, sink);
    return node;
}

struct sim_node *sim_node_raw(struct sim *sim, void *raw,
                              void (*feed)(void *raw, const struct ph_path *path,
                                           const uint8_t *data, size_t n))
{
    struct sim_node *node = node_add(sim);
    node->raw = raw;
    node->raw_feed = feed;
    return node;
}

void sim_node_send(struct sim_node *node, const struct ph_addr *to, const uint8_t *data, size_t n)
{
    send_one(node, to, 0, data, n);
}

void sim_node_kill(struct sim_node *node)
{
    ph_quic_endpoint_free(node->ep);
    node->ep = NULL;
}

void sim_node_revive(struct sim_node *node, const struct ph_quic_config *config,
                     const struct ph_quic_sink *sink)
{
    PH_ASSERT(node->ep == NULL);
    node_start(node, config, sink);
}

void sim_rebind(struct sim_node *node, bool address_too)
{
    ph_addr_set_port(&node->public, (uint16_t)(ph_addr_port(&node->public) + 1));
    if (address_too)
        node->public.u.in.sin_addr.s_addr ^= htonl(0x00010000);
}

static void deliver(struct sim *sim, const struct sim_packet *packet)
{
    for (unsigned i = 0; i < sim->nodes_count; i++) {
        struct sim_node *node = sim->nodes[i];
        if ((node->ep == NULL && node->raw_feed == NULL) ||
            !ph_addr_equal(&node->public, &packet->to))
            continue;
        struct ph_path path = {.local = node->addr, .remote = packet->from, .sock = node};
        node->bytes_in += packet->n;
        node->packets_in++;
        if (node->ep != NULL)
            ph_quic_endpoint_feed(node->ep, &path, packet->ecn, packet->data, packet->n, sim->now);
        else
            node->raw_feed(node->raw, &path, packet->data, packet->n);
        return;
    }
}

void sim_inject(struct sim_node *to, const struct ph_addr *from, const uint8_t *data, size_t n)
{
    struct ph_path path = {.local = to->addr, .remote = *from, .sock = to};
    ph_quic_endpoint_feed(to->ep, &path, 0, data, n, to->sim->now);
}

int sim_connect(struct sim_node *client, struct sim_node *server, struct ph_tls_cred *cred,
                struct ph_quic_conn **conn)
{
    struct ph_path path = {.local = client->addr, .remote = server->public, .sock = client};
    return ph_quic_endpoint_connect(client->ep, conn, &path, cred, "localhost", client->sim->now);
}

/* --- Memory --- */

size_t sim_memory(void)
{
    return mallinfo2().uordblks;
}

/* --- Time --- */

static void flush_all(struct sim *sim)
{
    for (unsigned i = 0; i < sim->nodes_count; i++) {
        struct sim_node *node = sim->nodes[i];
        if (node->ep == NULL)
            continue;
        ph_quic_endpoint_flush(node->ep, sim->now);
        ph_quic_endpoint_reap(node->ep);
    }
}

static uint64_t next_time(const struct sim *sim)
{
    uint64_t at = sim->heap_count > 0 ? sim->heap[0]->at : PH_NEVER;
    for (unsigned i = 0; i < sim->nodes_count; i++) {
        const struct sim_node *node = sim->nodes[i];
        if (node->ep != NULL)
            at = PH_MIN(at, ph_quic_endpoint_next(node->ep));
        if (node->upper_next != NULL)
            at = PH_MIN(at, node->upper_next(node->upper));
    }
    return at;
}

bool sim_step(struct sim *sim, uint64_t until)
{
    flush_all(sim);
    uint64_t at = PH_MAX(next_time(sim), sim->now);
    bool running = at <= until;
    sim->now = PH_MIN(at, until);
    while (sim->heap_count > 0 && sim->heap[0]->at <= sim->now) {
        struct sim_packet *packet = heap_pop(sim);
        deliver(sim, packet);
        ph_free(packet);
    }
    for (unsigned i = 0; i < sim->nodes_count; i++) {
        struct sim_node *node = sim->nodes[i];
        if (node->ep != NULL)
            ph_quic_endpoint_expire(node->ep, sim->now);
        if (node->upper_expire != NULL)
            node->upper_expire(node->upper, sim->now);
    }
    flush_all(sim);
    return running;
}

bool sim_run_until(struct sim *sim, bool (*condition)(void *arg), void *arg, uint64_t limit)
{
    uint64_t until = sim->now + limit;
    while (!condition(arg)) {
        if (!sim_step(sim, until))
            return condition(arg);
    }
    return true;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void sim_run_for(struct sim *sim, uint64_t duration)
{
    sim_run_until(sim, never, NULL, duration);
}

/* --- Credentials --- */

static void must(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "sim: certificate: %s\n", gnutls_strerror(rc));
        abort();
    }
}

static void write_pem(FILE *file, gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    gnutls_datum_t pem;
    must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem));
    fwrite(pem.data, 1, pem.size, file);
    gnutls_free(pem.data);
    must(
        gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem));
    fwrite(pem.data, 1, pem.size, file);
    gnutls_free(pem.data);
}

static void make_certificate(FILE *file)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    static const uint8_t serial[] = {1};
    time_t now = time(NULL);
    must(gnutls_x509_privkey_init(&key));
    must(gnutls_x509_privkey_generate(key, GNUTLS_PK_EDDSA_ED25519, 0, 0));
    must(gnutls_x509_crt_init(&crt));
    must(gnutls_x509_crt_set_version(crt, 3));
    must(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)));
    must(gnutls_x509_crt_set_dn(crt, "CN=localhost", NULL));
    must(gnutls_x509_crt_set_activation_time(crt, now - 3600));
    must(gnutls_x509_crt_set_expiration_time(crt, now + 86400));
    must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9,
                                              GNUTLS_FSAN_SET));
    must(gnutls_x509_crt_set_key(crt, key));
    must(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA512, 0));
    write_pem(file, crt, key);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

struct ph_tls_cred *sim_cred_server(void)
{
    char path[] = P_tmpdir "/ph-sim-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    PH_ASSERT(file != NULL);
    make_certificate(file);
    fclose(file);
    struct ph_tls_cred *cred = NULL;
    struct ph_err err = {""};
    int rc = ph_tls_cred_load(&cred, &(struct ph_tls_cred_options){.cert_path = path}, &err);
    unlink(path);
    if (rc != PH_OK)
        fprintf(stderr, "sim: %s\n", err.text);
    PH_ASSERT(rc == PH_OK);
    return cred;
}

struct ph_tls_cred *sim_cred_client(void)
{
    struct ph_tls_cred *cred = NULL;
    struct ph_err err = {""};
    int rc = ph_tls_cred_client(&cred, NULL, &err);
    PH_ASSERT(rc == PH_OK);
    return cred;
}
