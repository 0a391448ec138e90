/*
 * config.c - the option table: every setting of the server with its type, default, range and one
 * sentence of help.
 *
 * Everything that sets or shows options (ph_config_set(), ph_config_option(), the command line and
 * the documentation above it) reads this one table, so that an option exists everywhere or nowhere.
 * Values are checked one by one here; what depends on several of them (a certificate for TLS) is
 * checked in server.c and certs.c, when a server is made of them.
 */
#include "../tls/tls.h"
#include "core.h"

#include <stdlib.h>

enum option_type {
    OPT_ADDRESS,
    OPT_PATH,
    OPT_STRING,
    OPT_BOOL,
    OPT_COUNT,
    OPT_BYTES,
    OPT_MS,
    OPT_CHOICE
};

struct option {
    const char *name;
    enum option_type type;
    size_t offset;       /* in struct ph_config: ph_text_list, char * or uint64_t, by type */
    const char *initial; /* default as text */
    uint64_t min, max;   /* numbers */
    const char *accepts; /* choices separated by ", "; what text stands for */
    const char *help;
    bool repeatable;
};

#define AT(member) offsetof(struct ph_config, member)
#define LIST(id, type, accepts, help)                                                              \
    {                                                                                              \
#id, type, AT(id), "", 0, 0, accepts, help, true                                           \
    }
#define TEXT(id, type, accepts, help)                                                              \
    {                                                                                              \
#id, type, AT(id), "", 0, 0, accepts, help, false                                          \
    }
#define BOOL(id, initial, help)                                                                    \
    {                                                                                              \
#id, OPT_BOOL, AT(id), initial, 0, 1, "on, off", help, false                               \
    }
#define NUM(id, type, initial, min, max, help)                                                     \
    {                                                                                              \
#id, type, AT(id), initial, min, max, NULL, help, false                                    \
    }
#define CHOICE(id, initial, accepts, help)                                                         \
    {                                                                                              \
#id, OPT_CHOICE, AT(id), initial, 0, 0, accepts, help, false                               \
    }

#define UDP_FORM "host:port, [v6]:port, localhost:port, :port, fd://number, fd://systemd"
#define ADDRESS_FORM UDP_FORM ", unix:path"
#define HOUR_MS UINT64_C(3600000)
#define GIB (UINT64_C(1) << 30)

static const struct option options[] = {
    LIST(bind, OPT_ADDRESS, ADDRESS_FORM,
         "TCP address for HTTP/1.1 and HTTP/2; with TLS when there is a certificate."),
    LIST(insecure_bind, OPT_ADDRESS, ADDRESS_FORM, "TCP address, never with TLS."),
    LIST(quic_bind, OPT_ADDRESS, UDP_FORM, "UDP address for HTTP/3 and WebTransport."),
    TEXT(certfile, OPT_PATH, "file", "Certificate chain in PEM, leaf first."),
    TEXT(keyfile, OPT_PATH, "file", "Private key in PEM; certfile is searched when unset."),
    TEXT(keyfile_password, OPT_STRING, "text", "Password of an encrypted key."),
    LIST(certificate, OPT_STRING, "file, file,key, file,key,password-file",
         "Another certificate, chosen by the name that a client asks for."),
    TEXT(ca_certs, OPT_PATH, "file", "Certificates that client certificates must chain to."),
    CHOICE(verify_mode, "none", "none, optional, required",
           "Whether clients must show a certificate."),
    TEXT(ca_crl, OPT_PATH, "file", "Lists of revoked client certificates, by those of ca_certs."),
    CHOICE(tls_min_version, "tls1.2", "tls1.2, tls1.3", "Oldest version of TLS on TCP."),
    TEXT(ciphers, OPT_STRING, "AES-128-GCM, AES-256-GCM, CHACHA20-POLY1305, joined by \":\"",
         "Ciphers in order of preference; all when unset."),
    BOOL(session_tickets, "on", "Whether clients may resume sessions."),
    BOOL(early_data, "off", "Whether HTTP/3 requests are taken in 0-RTT."),
    TEXT(dev_certificate, OPT_PATH, "directory",
         "Makes and renews a 13-day development certificate there, for QUIC only."),
    LIST(
        alpn, OPT_STRING, "h3, h2, http/1.1",
        "Protocols to offer with TLS over TCP, the preferred one first; h2 and http/1.1 when unset."
        " QUIC always offers h3."),
    BOOL(alt_svc, "on",
         "Tells HTTP/1.1 and HTTP/2 clients of the QUIC port, with TLS only (Alt-Svc)."),
    TEXT(alt_svc_value, OPT_STRING, "value of an Alt-Svc field",
         "What they are told instead, for ports that are mapped on the way."),
    BOOL(h2c, "off", "Takes HTTP/2 without TLS from clients that begin with it."),
    CHOICE(congestion, "cubic", "cubic, bbr", "Congestion control of QUIC."),
    CHOICE(retry, "auto", "auto, always",
           "When QUIC clients must prove their address before a handshake."),
    NUM(handshake_timeout, OPT_MS, "10000", 100, HOUR_MS, "TLS and QUIC handshakes."),
    NUM(idle_timeout, OPT_MS, "30000", 1000, HOUR_MS, "QUIC connections without packets."),
    NUM(header_timeout, OPT_MS, "10000", 100, HOUR_MS, "A request head, from its first byte."),
    NUM(body_timeout, OPT_MS, "30000", 100, HOUR_MS, "Between two pieces of a request body."),
    NUM(keep_alive, OPT_MS, "15000", 0, HOUR_MS, "HTTP/1.1 connections between requests."),
    NUM(write_stall_timeout, OPT_MS, "60000", 100, HOUR_MS,
        "A client that takes none of what is waiting for it."),
    NUM(min_send_rate, OPT_BYTES, "256", 0, GIB,
        "Bytes a second that a client takes of what is waiting for it, over each "
        "write_stall_timeout; 0 for no least rate."),
    NUM(min_body_rate, OPT_BYTES, "256", 0, GIB,
        "Bytes a second of a request body while the application reads it; 0 for no least rate."),
    NUM(body_rate_grace, OPT_MS, "10000", 100, HOUR_MS,
        "Time at the beginning of a body before its rate counts."),
    NUM(no_request_timeout, OPT_MS, "60000", 100, HOUR_MS,
        "QUIC connections on which no request or session is open."),
    NUM(max_connections, OPT_COUNT, "16384", 1, 1000000, "QUIC and TCP connections at once."),
    NUM(max_connections_per_ip, OPT_COUNT, "256", 0, 1000000,
        "Of those, of one IPv4 address or IPv6 network of 64 bits; 0 for no limit."),
    LIST(unlimited_peer, OPT_STRING, "address, address/bits",
         "Peers that max_connections_per_ip does not count, such as proxies; loopback when unset."),
    NUM(max_concurrent_app_calls, OPT_COUNT, "4096", 1, 1000000,
        "Requests and sessions that the application works on at once; more get 503."),
    NUM(memory_budget, OPT_BYTES, "0", 0, UINT64_C(1) << 50,
        "Resident memory of the process above which new connections and requests are refused; 0"
        " for three quarters of the machine's or control group's."),
    NUM(head_bytes, OPT_BYTES, "65536", 256, 1048576,
        "Request head, decoded: name, value and 32 bytes a field."),
    NUM(head_fields, OPT_COUNT, "100", 1, 10000, "Fields of a request head."),
    NUM(target_bytes, OPT_BYTES, "8192", 16, 1048576, "Path with query."),
    NUM(head_encoded, OPT_BYTES, "65536", 256, 1048576,
        "Compressed request head that is held while it is incomplete."),
    NUM(max_body, OPT_BYTES, "16777216", 0, UINT64_C(1) << 50, "Request body; 0 for no limit."),
    NUM(body_window, OPT_BYTES, "65536", 1024, GIB,
        "HTTP/1.1 body bytes not consumed above which reading stops."),
    NUM(keep_alive_requests, OPT_COUNT, "10000", 1, UINT32_MAX,
        "Requests on one HTTP/1.1 connection."),
    NUM(pipelined_max, OPT_COUNT, "16", 1, 1000, "HTTP/1.1 requests read ahead."),
    NUM(chunk_overhead, OPT_BYTES, "102400", 1024, GIB,
        "Framing bytes of one chunked body beyond its payload."),
    NUM(chunk_extension, OPT_BYTES, "256", 0, 65536, "Extension on one chunk line."),
    NUM(h2_max_streams, OPT_COUNT, "128", 1, 1000000, "Requests of one HTTP/2 connection at once."),
    NUM(h2_max_frame, OPT_BYTES, "16384", 16384, 16777215, "Largest HTTP/2 frame taken."),
    NUM(h2_header_table, OPT_BYTES, "4096", 0, 1048576,
        "HTTP/2 header compression table, each way."),
    NUM(h2_settings_max, OPT_COUNT, "32", 7, 10000, "Entries of one HTTP/2 SETTINGS frame."),
    NUM(h2_continuations, OPT_COUNT, "8", 0, 10000,
        "CONTINUATION frames of one HTTP/2 request head."),
    NUM(h2_replies_max, OPT_COUNT, "1000", 1, 1000000,
        "HTTP/2 acknowledgements that wait for a client which does not read."),
    NUM(h2_stream_window, OPT_BYTES, "262144", 65535, GIB, "Receive window of one HTTP/2 stream."),
    NUM(h2_conn_window, OPT_BYTES, "1048576", 65535, GIB,
        "Receive window of one HTTP/2 connection."),
    NUM(h2_idle_timeout, OPT_MS, "60000", 1000, HOUR_MS, "HTTP/2 connections without a request."),
    NUM(h2_reset_burst, OPT_COUNT, "1000", 1, 1000000,
        "Streams that one HTTP/2 connection may cancel, or have reset for its faults, at once."),
    NUM(h2_reset_rate, OPT_COUNT, "33", 1, 1000000, "The same, a second."),
    NUM(half_open_retry, OPT_COUNT, "512", 0, 1000000,
        "QUIC handshakes under way above which a Retry is asked for."),
    NUM(half_open_max, OPT_COUNT, "4096", 1, 1000000,
        "QUIC handshakes under way above which new ones are dropped."),
    NUM(max_streams_bidi, OPT_COUNT, "1024", 1, 1000000,
        "Bidirectional QUIC streams of a client at once."),
    NUM(max_streams_uni, OPT_COUNT, "1024", 3, 1000000,
        "Unidirectional QUIC streams of a client at once."),
    NUM(stream_window, OPT_BYTES, "262144", 1024, GIB, "Receive window of one QUIC stream."),
    NUM(conn_window, OPT_BYTES, "1048576", 1024, GIB, "Receive window of one QUIC connection."),
    NUM(window_max, OPT_BYTES, "4194304", 1024, GIB,
        "Size to which QUIC windows grow while the application keeps up."),
    NUM(max_datagram_frame, OPT_BYTES, "65535", 0, 65535,
        "Largest DATAGRAM frame taken; 0 turns datagrams off."),
    NUM(vn_rate, OPT_COUNT, "100", 0, 1000000, "Version Negotiation packets a second."),
    NUM(retry_rate, OPT_COUNT, "10000", 0, 1000000, "Retry packets a second."),
    NUM(reset_rate, OPT_COUNT, "100", 0, 1000000, "Stateless resets a second."),
    NUM(glitch_burst, OPT_COUNT, "10000", 1, 10000000,
        "Frames without progress that one QUIC or HTTP/2 connection may send at once."),
    NUM(glitch_rate, OPT_COUNT, "330", 1, 1000000, "The same, a second."),
    NUM(cancel_burst, OPT_COUNT, "200", 1, 1000000,
        "Requests that one QUIC connection may cancel at once."),
    NUM(cancel_rate, OPT_COUNT, "50", 1, 1000000, "The same, a second."),
    BOOL(webtransport, "on", "Whether WebTransport is offered."),
    BOOL(websocket, "on", "Whether WebSocket is spoken; off, its requests are plain HTTP."),
    LIST(ws_allowed_origin, OPT_STRING, "https://host, http://host:port, *",
         "Origin that may open WebSockets; without any, every page may."),
    NUM(ws_max_size, OPT_BYTES, "16777216", 1, GIB, "WebSocket message, decompressed."),
    NUM(ws_max_frames, OPT_COUNT, "4096", 1, 1000000, "Frames of one message."),
    NUM(ws_max_queue, OPT_COUNT, "32", 1, 65536,
        "Messages of one WebSocket that the application has not read; then reading stops."),
    NUM(ws_queue_bytes, OPT_BYTES, "1048576", 1, GIB,
        "Their bytes, at which no further message is begun."),
    NUM(ws_ping_interval, OPT_MS, "20000", 0, HOUR_MS, "Between pings; 0 for none."),
    NUM(ws_ping_timeout, OPT_MS, "20000", 0, HOUR_MS, "For the pong of each; 0 for no limit."),
    NUM(ws_close_timeout, OPT_MS, "5000", 10, HOUR_MS, "For the answer to a close."),
    BOOL(ws_per_message_deflate, "on", "Whether messages may be compressed."),
    LIST(wt_allowed_origin, OPT_STRING, "https://host, https://host:port, *",
         "Origin that may open sessions; without any, only the server's own."),
    NUM(wt_max_sessions, OPT_COUNT, "16", 1, 10000, "Sessions of one connection at once."),
    NUM(wt_session_burst, OPT_COUNT, "64", 1, 1000000,
        "Sessions that one connection may ask for at once."),
    NUM(wt_session_rate, OPT_COUNT, "32", 1, 1000000, "The same, a second."),
    NUM(wt_accept_timeout, OPT_MS, "10000", 100, HOUR_MS,
        "Until a session that the application does not answer gets 503."),
    NUM(wt_close_timeout, OPT_MS, "2000", 10, HOUR_MS, "A close waits for the peer's answer."),
    NUM(wt_pending_sessions, OPT_COUNT, "16", 0, 10000,
        "Sessions of one connection that are not asked for yet and have something held."),
    NUM(wt_pending_streams, OPT_COUNT, "16", 0, 10000,
        "Streams of one session held before it is accepted."),
    NUM(wt_pending_bytes, OPT_BYTES, "65536", 0, GIB,
        "Their bytes, of all sessions of one connection."),
    NUM(wt_pending_datagrams, OPT_COUNT, "16", 0, 10000,
        "Datagrams of one session held before it is accepted."),
    NUM(wt_pending_datagram_bytes, OPT_BYTES, "16384", 0, GIB,
        "Their bytes, of all sessions of one connection."),
    NUM(wt_pending_timeout, OPT_MS, "5000", 10, HOUR_MS,
        "Until streams without a session are refused."),
    NUM(wt_capsule_skip_max, OPT_BYTES, "1048576", 0, GIB,
        "Bytes of unknown capsules that one session may send."),
    NUM(datagrams_in, OPT_COUNT, "256", 1, 65536,
        "Received datagrams of one session waiting; the oldest is dropped."),
    NUM(datagram_bytes_in, OPT_BYTES, "65536", 1200, GIB, "Their bytes."),
    NUM(datagrams_out, OPT_COUNT, "64", 1, 65536,
        "Datagrams of one session waiting to be sent; the oldest is dropped."),
    NUM(datagram_bytes_out, OPT_BYTES, "262144", 1200, GIB, "Their bytes."),
    NUM(send_buffer, OPT_BYTES, "262144", 1, GIB,
        "Bytes queued on one stream or response above which the writer waits."),
    NUM(send_buffer_low, OPT_BYTES, "65536", 0, GIB, "The same: it goes on at this many."),
    NUM(conn_send_buffer, OPT_BYTES, "1048576", 4096, GIB,
        "Bytes that responses of one connection share as their parts of send_buffer: the first"
        " ones get that much, later ones less, none below 4 KiB."),
    NUM(session_send_buffer, OPT_BYTES, "1048576", 1, GIB,
        "Bytes queued on all streams of a session above which writers wait."),
    NUM(ring_slots, OPT_COUNT, "4096", 8, 1048576,
        "Messages between the two threads, each way; a power of two."),
    NUM(udp_buffer, OPT_BYTES, "2621440", 65536, GIB, "Kernel buffer of a UDP socket, each way."),
    NUM(backlog, OPT_COUNT, "1024", 1, 65535, "Connections that the kernel holds for accept."),
    TEXT(uds_permissions, OPT_STRING, "octal digits, 0 to 777",
         "Mode of the file of a Unix socket; 666 when unset: any user, as with a loopback port."),
    TEXT(uds_user, OPT_STRING, "name, number", "Who owns the file of a Unix socket."),
    TEXT(uds_group, OPT_STRING, "name, number", "The group that it belongs to."),
    BOOL(reuse_port, "off", "Lets several processes bind the same addresses."),
    BOOL(steering, "on",
         "Has the kernel give QUIC packets to the worker they belong to; off: workers pass them"
         " on."),
    BOOL(gso, "on", "Sends runs of packets with one system call where the kernel can."),
    BOOL(gro, "on", "Receives runs of packets with one system call where the kernel can."),
    TEXT(secret, OPT_STRING, "64 hexadecimal digits, or a file of at least 32 bytes",
         "Key of session tickets, QUIC tokens and resets, the same for all workers; random when"
         " unset."),
    NUM(worker, OPT_COUNT, "0", 0, 65535, "Index that connection ids of this process carry."),
    NUM(processes, OPT_COUNT, "1", 1, 65535,
        "Processes of this server, which share the memory budget."),
    BOOL(server_header, "on", "Adds a server field to responses that have none."),
    BOOL(date_header, "on", "Adds a date field to responses that have none."),
    LIST(header, OPT_STRING, "name: value",
         "Field that is added to responses that have none of its name."),
    CHOICE(log_level, "info", "debug, info, warning, error", "Lines below are not made."),
};

static const char *const type_names[] = {
    [OPT_ADDRESS] = "address", [OPT_PATH] = "path",     [OPT_STRING] = "string",
    [OPT_BOOL] = "bool",       [OPT_COUNT] = "count",   [OPT_BYTES] = "bytes",
    [OPT_MS] = "milliseconds", [OPT_CHOICE] = "choice",
};

/* "0 to 65535": what options of numbers take. Written once, before any thread can ask, so that
 * ph_config_option() gives static storage. */
static char ranges[PH_COUNT_OF(options)][48];

__attribute__((constructor)) static void ranges_init(void)
{
    for (size_t i = 0; i < PH_COUNT_OF(options); i++)
        snprintf(ranges[i], sizeof(ranges[i]), "%llu to %llu", (unsigned long long)options[i].min,
                 (unsigned long long)options[i].max);
}

static const char *accepts_of(const struct option *opt)
{
    return opt->accepts != NULL ? opt->accepts : ranges[opt - options];
}

int ph_config_option(size_t index, ph_option *out)
{
    if (index >= PH_COUNT_OF(options))
        return PH_E_NOTFOUND;
    const struct option *opt = &options[index];
    *out = (ph_option){
        .name = opt->name,
        .type = type_names[opt->type],
        .default_value = opt->initial,
        .accepts = accepts_of(opt),
        .help = opt->help,
        .repeatable = opt->repeatable,
    };
    return 0;
}

static void *member(const struct ph_config *config, const struct option *opt)
{
    return (char *)(uintptr_t)config + opt->offset;
}

static bool is_text(enum option_type type)
{
    return type == OPT_ADDRESS || type == OPT_PATH || type == OPT_STRING;
}

static void list_clear(struct ph_text_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        ph_free(list->items[i]);
    ph_free(list->items);
    *list = (struct ph_text_list){0};
}

static void list_append(struct ph_text_list *list, const char *text)
{
    list->items = ph_realloc(list->items, (list->n + 2) * sizeof(*list->items));
    list->items[list->n++] = ph_strdup(text);
    list->items[list->n] = NULL;
}

static int reject(struct ph_config *config, const struct option *opt, const char *value)
{
    char shown[128];
    ph_escape(shown, sizeof(shown), value, strlen(value));
    return ph_fail(&config->error, PH_E_CONFIG, "%s: \"%s\" is not a valid %s; accepted: %s",
                   opt->name, shown, type_names[opt->type], accepts_of(opt));
}

/* Decimal digits with one of the type's units. */
static bool parse_number(const struct option *opt, const char *value, uint64_t *out)
{
    uint64_t v = 0;
    const char *p = value;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    static const struct {
        enum option_type type;
        const char *unit;
        uint64_t factor;
    } units[] = {
        {OPT_BYTES, "K", 1024},      {OPT_BYTES, "KiB", 1024}, {OPT_BYTES, "M", 1048576},
        {OPT_BYTES, "MiB", 1048576}, {OPT_BYTES, "G", GIB},    {OPT_BYTES, "GiB", GIB},
        {OPT_MS, "ms", 1},           {OPT_MS, "s", 1000},      {OPT_MS, "m", 60000},
    };
    uint64_t factor = *p == '\0' ? 1 : 0;
    for (size_t i = 0; i < PH_COUNT_OF(units); i++) {
        if (units[i].type == opt->type && ph_text_equal(p, strlen(p), units[i].unit))
            factor = units[i].factor;
    }
    if (factor == 0 || v > UINT64_MAX / factor)
        return false;
    *out = v * factor;
    return *out >= opt->min && *out <= opt->max;
}

static bool parse_bool(const char *value, uint64_t *out)
{
    static const char *const yes[] = {"on", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "no", "0"};
    size_t n = strlen(value);
    for (size_t i = 0; i < PH_COUNT_OF(yes); i++) {
        *out = ph_text_equal(value, n, yes[i]);
        if (*out || ph_text_equal(value, n, no[i]))
            return true;
    }
    return false;
}

/* The position of `value` in a list of choices separated by ", ". */
static bool parse_choice(const char *choices, const char *value, uint64_t *out)
{
    size_t n = strlen(value);
    uint64_t index = 0;
    for (const char *p = choices; p != NULL && n > 0; index++) {
        const char *end = strstr(p, ", ");
        size_t len = end != NULL ? (size_t)(end - p) : strlen(p);
        if (ph_text_same(p, len, value, n)) {
            *out = index;
            return true;
        }
        p = end != NULL ? end + 2 : NULL;
    }
    return false;
}

/* "unix:path" or "fd://number"; whether something is there is seen when the server binds. */
static bool is_local_address(const struct option *opt, const char *value)
{
    if (strncmp(value, "unix:", 5) == 0) {
        size_t n = strlen(value + 5);
        return opt->offset != AT(quic_bind) && n > (value[5] == '@' ? 1 : 0) &&
               n <= PH_UNIX_PATH_MAX;
    }
    if (strncmp(value, "fd://systemd", 12) == 0)
        return value[12] == '\0' || (value[12] == ':' && value[13] != '\0');
    size_t digits = strncmp(value, "fd://", 5) == 0 ? strspn(value + 5, "0123456789") : 0;
    return digits > 0 && digits <= 7 && value[5 + digits] == '\0';
}

/* "host:port" with a port of 0 to 65535; the host is looked up when the server binds. */
static bool address_is_valid(const struct option *opt, const char *value)
{
    if (is_local_address(opt, value))
        return true;
    const char *colon = strrchr(value, ':');
    if (colon == NULL)
        return false;
    size_t digits = strspn(colon + 1, "0123456789");
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || atoi(colon + 1) > 65535)
        return false;
    if (value[0] == '[')
        return colon > value && colon[-1] == ']';
    return memchr(value, ':', (size_t)(colon - value)) == NULL;
}

/* Names are compared byte by byte (RFC 7301 3.2). */
static bool is_alpn(const char *value)
{
    static const char *const names[] = {"h3", "h2", "http/1.1"};
    for (size_t i = 0; i < PH_COUNT_OF(names); i++) {
        if (strcmp(names[i], value) == 0)
            return true;
    }
    return false;
}

/* "660", "0o660": what chmod() takes. */
static bool is_mode(const char *value)
{
    const char *digits = strncmp(value, "0o", 2) == 0 ? value + 2 : value;
    size_t n = strspn(digits, "01234567");
    return n > 0 && n <= 4 && digits[n] == '\0' && strtoul(digits, NULL, 8) <= 0777;
}

int ph_config_header(const char *text, struct ph_field *out)
{
    static const char *const framing[] = {"content-length", "trailer"};
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return PH_E_INVAL;
    const char *value = colon + 1;
    size_t name_len = (size_t)(colon - text), n = strlen(value);
    ph_text_trim(&value, &n);
    *out = (struct ph_field){text, value, name_len, n};
    if (!ph_field_name_is_valid(text, name_len) || !ph_field_value_is_valid(value, n))
        return PH_E_INVAL;
    for (size_t i = 0; i < PH_COUNT_OF(framing); i++) {
        if (ph_text_equal(text, name_len, framing[i]))
            return PH_E_INVAL;
    }
    return ph_field_is_connection_specific(text, name_len) ? PH_E_INVAL : 0;
}

static int set_text(struct ph_config *config, const struct option *opt, const char *value)
{
    struct ph_net net;
    struct ph_field field;
    if ((opt->offset == AT(header) && ph_config_header(value, &field) < 0) ||
        (opt->offset == AT(alpn) && !is_alpn(value)) ||
        (opt->offset == AT(alt_svc_value) && !ph_field_value_is_valid(value, strlen(value))) ||
        (opt->offset == AT(unlimited_peer) && ph_net_parse(&net, value) < 0) ||
        (opt->offset == AT(uds_permissions) && !is_mode(value)) ||
        (opt->offset == AT(ciphers) && !ph_tls_ciphers_are_valid(value)) ||
        (opt->offset == AT(certificate) && !ph_certs_entry_is_valid(value)))
        return reject(config, opt, value);
    if (*value == '\0' || (opt->type == OPT_ADDRESS && !address_is_valid(opt, value)))
        return reject(config, opt, value);
    if (opt->repeatable) {
        list_append(member(config, opt), value);
        return 0;
    }
    char **text = member(config, opt);
    ph_free(*text);
    *text = ph_strdup(value);
    return 0;
}

static int set_option(struct ph_config *config, const struct option *opt, const char *value)
{
    if (is_text(opt->type))
        return set_text(config, opt, value);
    uint64_t v = 0;
    bool ok;
    if (opt->type == OPT_BOOL)
        ok = parse_bool(value, &v);
    else if (opt->type == OPT_CHOICE)
        ok = parse_choice(opt->accepts, value, &v);
    else
        ok = parse_number(opt, value, &v);
    if (ok && opt->offset == AT(ring_slots) && (v & (v - 1)) != 0)
        ok = false;
    if (!ok)
        return reject(config, opt, value);
    *(uint64_t *)member(config, opt) = v;
    return 0;
}

/* Back to the default. */
static void clear(struct ph_config *config, const struct option *opt)
{
    if (opt->repeatable) {
        list_clear(member(config, opt));
    } else if (is_text(opt->type)) {
        char **text = member(config, opt);
        ph_free(*text);
        *text = NULL;
    } else {
        int rc = set_option(config, opt, opt->initial);
        PH_ASSERT(rc == 0);
    }
}

ph_config *ph_config_new(void)
{
    struct ph_config *config = ph_alloc(sizeof(*config));
    for (size_t i = 0; i < PH_COUNT_OF(options); i++)
        clear(config, &options[i]);
    return config;
}

void ph_config_free(ph_config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < PH_COUNT_OF(options); i++)
        clear(config, &options[i]);
    ph_free(config);
}

struct ph_config *ph_config_copy(const struct ph_config *config)
{
    struct ph_config *copy = ph_alloc(sizeof(*copy));
    *copy = *config;
    for (size_t i = 0; i < PH_COUNT_OF(options); i++) {
        const struct option *opt = &options[i];
        if (opt->repeatable) {
            const struct ph_text_list *from = member(config, opt);
            struct ph_text_list *to = member(copy, opt);
            *to = (struct ph_text_list){0};
            for (size_t k = 0; k < from->n; k++)
                list_append(to, from->items[k]);
        } else if (is_text(opt->type)) {
            char *const *from = member(config, opt);
            char **to = member(copy, opt);
            *to = *from != NULL ? ph_strdup(*from) : NULL;
        }
    }
    return copy;
}

int ph_config_set(ph_config *config, const char *name, const char *value)
{
    config->error.text[0] = '\0';
    for (size_t i = 0; i < PH_COUNT_OF(options); i++) {
        if (strcmp(options[i].name, name) != 0)
            continue;
        if (value != NULL)
            return set_option(config, &options[i], value);
        clear(config, &options[i]);
        return 0;
    }
    char shown[64];
    return ph_fail(&config->error, PH_E_CONFIG, "unknown option \"%s\"",
                   ph_escape(shown, sizeof(shown), name, strlen(name)));
}

const char *ph_config_error(const ph_config *config)
{
    return config->error.text;
}
