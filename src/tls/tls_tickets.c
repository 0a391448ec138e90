/*
 * tls_tickets.c - session tickets (RFC 5077, RFC 8446 4.6.1): their keys, and the memory of early
 * data that was seen.
 *
 * GnuTLS makes the ticket keys from a master key and the time: a new one every twelve hours, the
 * previous one still accepted. Our master keys are derived from the servers' shared secret: all
 * workers and their successors agree without talking. TCP and QUIC have keys of their own, and
 * QUIC's also depends on what 0-RTT relies on (`binding`: limits that a server may not lower for a
 * client that remembers them, RFC 9000 7.4.1): a server that promises something else cannot read
 * the ticket, and the client makes a full handshake.
 *
 * Early data is taken once: the binder of each ClientHello that carried some is remembered as long
 * as GnuTLS would accept it (RFC 8446 8.2), in this process. I/O thread.
 */
#include "tls_internal.h"

#include <gnutls/crypto.h>

/* What is remembered at most. When it is full, early data is refused and the handshake goes on
 * without: 4096 in ten seconds is more 0-RTT than one thread serves. */
#define REPLAY_MAX 4096u

struct seen {
    uint64_t key;
    time_t until;
};

struct ph_tls_tickets {
    gnutls_datum_t tcp, quic;    /* master keys; own */
    gnutls_anti_replay_t replay; /* NULL: no early data */
    struct ph_map keys;
    struct seen *ring; /* REPLAY_MAX, oldest first */
    unsigned head, count;
};

static void derive(gnutls_datum_t *out, const uint8_t secret[32], const char *label,
                   const void *binding, size_t n)
{
    uint8_t info[256];
    size_t label_len = strlen(label);
    PH_ASSERT(label_len + n <= sizeof(info));
    memcpy(info, label, label_len);
    if (n > 0)
        memcpy(info + label_len, binding, n);
    const gnutls_datum_t key = {(unsigned char *)(uintptr_t)secret, 32};
    const gnutls_datum_t text = {info, (unsigned)(label_len + n)};
    /* The length that GnuTLS wants is that of a key it makes itself. */
    PH_ASSERT(gnutls_session_ticket_key_generate(out) == 0);
    int rv = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &key, &text, out->data, out->size);
    PH_ASSERT(rv == 0);
}

static void wipe(gnutls_datum_t *key)
{
    gnutls_memset(key->data, 0, key->size);
    gnutls_free(key->data);
}

/* Remembers one use. */
static int replay_add(void *self, time_t until, const gnutls_datum_t *id,
                      const gnutls_datum_t *data)
{
    struct ph_tls_tickets *tickets = self;
    uint64_t key = 0;
    (void)data;
    /* The id is the output of an HMAC: any part of it is as good as a hash. */
    memcpy(&key, id->data, PH_MIN(sizeof(key), (size_t)id->size));
    while (tickets->count > 0) {
        const struct seen *oldest = &tickets->ring[tickets->head];
        if (oldest->until > until - PH_TLS_REPLAY_WINDOW)
            break;
        ph_map_del(&tickets->keys, oldest->key);
        tickets->head = (tickets->head + 1) % REPLAY_MAX;
        tickets->count--;
    }
    if (tickets->count == REPLAY_MAX || ph_map_get(&tickets->keys, key) != NULL)
        return GNUTLS_E_DB_ENTRY_EXISTS;
    ph_map_put(&tickets->keys, key, tickets);
    tickets->ring[(tickets->head + tickets->count++) % REPLAY_MAX] =
        (struct seen){.key = key, .until = until};
    return 0;
}

void ph_tls_tickets_new(struct ph_tls_tickets **out, const uint8_t secret[32], bool early_data,
                        const void *binding, size_t n)
{
    struct ph_tls_tickets *tickets = ph_alloc(sizeof(*tickets));
    derive(&tickets->tcp, secret, "pronghorn tls ticket tcp ", NULL, 0);
    derive(&tickets->quic, secret, "pronghorn tls ticket quic ", binding, n);
    ph_map_init(&tickets->keys);
    if (early_data) {
        tickets->ring = ph_alloc(REPLAY_MAX * sizeof(*tickets->ring));
        PH_ASSERT(gnutls_anti_replay_init(&tickets->replay) == 0);
        gnutls_anti_replay_set_window(tickets->replay, PH_TLS_REPLAY_WINDOW * 1000);
        gnutls_anti_replay_set_add_function(tickets->replay, replay_add);
        gnutls_anti_replay_set_ptr(tickets->replay, tickets);
    }
    *out = tickets;
}

void ph_tls_tickets_free(struct ph_tls_tickets *tickets)
{
    if (tickets == NULL)
        return;
    wipe(&tickets->tcp);
    wipe(&tickets->quic);
    if (tickets->replay != NULL)
        gnutls_anti_replay_deinit(tickets->replay);
    ph_map_fini(&tickets->keys);
    ph_free(tickets->ring);
    ph_free(tickets);
}

bool ph_tls_tickets_have_early(const struct ph_tls_tickets *tickets)
{
    return tickets != NULL && tickets->replay != NULL;
}

int ph_tls_tickets_attach(struct ph_tls_tickets *tickets, gnutls_session_t session, bool is_quic)
{
    /* GnuTLS changes keys after three times this; it is also how long a ticket is good. */
    gnutls_db_set_cache_expiration(session, PH_TLS_TICKET_PERIOD / 3);
    if (gnutls_session_ticket_enable_server(session, is_quic ? &tickets->quic : &tickets->tcp) < 0)
        return PH_E_TLS;
    if (is_quic && tickets->replay != NULL) {
        gnutls_anti_replay_enable(session, tickets->replay);
        gnutls_record_set_max_early_data_size(session, UINT32_MAX); /* RFC 9001 4.6.1 */
    }
    return 0;
}
