/*
 * base.h - what every module stands on: errors, assertions, allocation, clock, log, counters,
 * addresses, buffers and slices, the SPSC ring, maps, the wire reader and writer.
 *
 * Nothing here knows a socket or a protocol. All headers of the tree may include this one, and only
 * this one.
 */
#ifndef PH_BASE_H
#define PH_BASE_H

#include <pronghorn.h>

#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* --- Assertions, allocation, time --- */

/* For our own bugs, never for what a peer did. Kept in release builds. */
#define PH_ASSERT(cond) ((cond) ? (void)0 : ph_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void ph_assert_failed(const char *cond, const char *file, int line);

#define PH_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define PH_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define PH_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PH_MAX(a, b) ((a) > (b) ? (a) : (b))

#define PH_MSEC UINT64_C(1000000) /* times are nanoseconds */
#define PH_SEC UINT64_C(1000000000)
#define PH_NEVER UINT64_MAX

/* Small internal allocations never fail for those who ask: see alloc.c. Sizes that a peer chooses
 * go through a limit first. */
void *ph_alloc(size_t size);            /* zeroed; aligned to 64 when `size` is a multiple of 64 */
void *ph_realloc(void *p, size_t size); /* neither zeroes nor keeps an alignment over 16 */
/* A larger array for a full queue in an array of `cap` entries, the oldest of which is at `head`:
 * the new one begins with it. Frees the old one; caller owns the new one. */
void *ph_queue_grow(void *entries, size_t size, size_t cap, size_t head, size_t new_cap);
char *ph_strdup(const char *s);
char *ph_strndup(const char *s, size_t n); /* NUL-terminated copy of n bytes */
void ph_free(void *p);
/* As ph_alloc(), aligned to 64 whatever the size, for what comes and goes with requests: cheap. Not
 * NULL; freed by the second. */
void *ph_alloc_lines(size_t size);
void ph_free_lines(void *p);

/* What the I/O thread gives back to the system when that has no memory. In pieces, so that it lasts
 * for more than one moment; what asks for it is smaller than they are, with few exceptions. Nobody
 * writes into it, so that it costs address space and hardly any memory. */
#define PH_RESERVE_BLOCKS 16
#define PH_RESERVE_BLOCK ((size_t)65536)
struct ph_reserve {
    void *blocks[PH_RESERVE_BLOCKS]; /* own; NULL: given away */
    bool is_failed;                  /* it was needed since ph_alloc_failed() was asked */
    uint64_t failures;               /* allocations that failed, in all */
    size_t size;                     /* bytes of the last of them */
};
bool ph_reserve_fill(struct ph_reserve *reserve); /* false: it is not whole */
void ph_reserve_fini(struct ph_reserve *reserve);
/* The reserve was needed since this was asked last: what that was for has to end. */
bool ph_alloc_failed(void);

/* NULL when there is none; not zeroed. For sizes that no reserve could hold: whoever asks has a way
 * to do without, or ends by itself. */
void *ph_try_alloc(size_t size);
/* In the form that libraries want, `self` means nothing. NULL when the reserve is used up as well.
 */
void *ph_lib_malloc(size_t size, void *self);
void *ph_lib_calloc(size_t n, size_t size, void *self);
void *ph_lib_realloc(void *p, size_t size, void *self);
void ph_lib_free(void *p, void *self);

uint64_t ph_clock_now(void); /* CLOCK_MONOTONIC, ns; only core/iothread.c and tools call it */
void ph_random(void *out, size_t n); /* cryptographic; aborts when the system has none */

/* Payload copies go through here so that they can be counted. */
void ph_copy(struct ph_stats *stats, void *to, const void *from, size_t n);

/* --- Live objects (the only mutable globals of the core) --- */

#define PH_LIVE_LIST(X)                                                                            \
    X(BUF, "buf")                                                                                  \
    X(CHAN, "chan")                                                                                \
    X(SERVER, "server")                                                                            \
    X(TLS_CRED, "tls_cred")                                                                        \
    X(TLS_INFO, "tls_info")                                                                        \
    X(TLS_SESSION, "tls_session")                                                                  \
    X(TCP_CONN, "tcp_conn")                                                                        \
    X(QUIC_CONN, "quic_conn")                                                                      \
    X(QUIC_STREAM, "quic_stream")                                                                  \
    X(EXCHANGE, "exchange")                                                                        \
    X(H1_CONN, "h1_conn")                                                                          \
    X(H2_CONN, "h2_conn")                                                                          \
    X(H2_STREAM, "h2_stream")                                                                      \
    X(H3_CONN, "h3_conn")                                                                          \
    X(H3_STREAM, "h3_stream")                                                                      \
    X(WS, "ws")                                                                                    \
    X(WT_SESSION, "wt_session")                                                                    \
    X(WT_STREAM, "wt_stream")
enum ph_live {
#define PH_LIVE_ENUM(id, text) PH_LIVE_##id,
    PH_LIVE_LIST(PH_LIVE_ENUM)
#undef PH_LIVE_ENUM
        PH_LIVE_COUNT
};
void ph_live_add(enum ph_live kind, int delta);
int64_t ph_live_get(enum ph_live kind);

/* --- Counters and budgets --- */

/* One writer (the I/O thread), any reader. */
#define ph_count_add(stats, field, n)                                                              \
    __atomic_store_n(&(stats)->field,                                                              \
                     __atomic_load_n(&(stats)->field, __ATOMIC_RELAXED) + (uint64_t)(n),           \
                     __ATOMIC_RELAXED)
#define ph_count(stats, field) ph_count_add(stats, field, 1)

/* Token bucket: `burst` tokens at most, refilled with `rate` tokens a second. */
struct ph_bucket {
    uint64_t burst, rate;
    uint64_t milli_tokens; /* thousandths of a token */
    uint64_t last;         /* ns */
};
void ph_bucket_init(struct ph_bucket *bucket, uint64_t burst, uint64_t rate, uint64_t now);
bool ph_bucket_take(struct ph_bucket *bucket, uint64_t tokens,
                    uint64_t now); /* false: not enough, none taken */

/* The time that `n` bytes buy at a least rate of `rate` bytes a second, at most `max`. A rate of 0
 * gives it all for the first byte. ns */
static inline uint64_t ph_time_bought(uint64_t n, uint64_t rate, uint64_t max)
{
    if (n == 0)
        return 0;
    if (rate == 0 || n / rate >= max / PH_SEC + 1)
        return max;
    return PH_MIN(n * PH_SEC / rate, max);
}

/* --- Log and thread environment --- */

/* What the current thread offers to code that has no server at hand. Set once by the I/O thread;
 * other threads have none (log lines then go to stderr from PH_LOG_WARNING up, and wrapped buffers
 * are released in place). */
struct ph_buf_home;
struct ph_thread {
    void (*log)(void *self, enum ph_log_level level, const char *line, size_t n);
    void *self;
    enum ph_log_level level; /* lines below are not formatted */
    struct ph_buf_home *home;
    struct ph_reserve *reserve; /* NULL: allocations that fail end the process */
};
void ph_thread_set(
    const struct ph_thread *env); /* borrow until ph_thread_set(NULL) on the same thread */

/* "noun: event key=value"; no payload; peer text only through ph_escape(). */
void ph_log(enum ph_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same under a budget of one line a second per bucket, for lines that peers cause. */
void ph_log_limited(struct ph_bucket *bucket, uint64_t now, enum ph_log_level level,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Writes at most `cap`-1 bytes of printable text for `n` bytes from a peer: others become \xNN.
 * Returns `out`. */
const char *ph_escape(char *out, size_t cap, const void *data, size_t n);

/* A place for one error sentence. */
struct ph_err {
    char text[512];
};
/* Formats and returns `code`. `err` may be NULL. */
int ph_fail(struct ph_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --- Intrusive doubly linked list --- */

struct ph_link {
    struct ph_link *prev, *next;
};
static inline void ph_list_init(struct ph_link *head)
{
    head->prev = head->next = head;
}
static inline bool ph_list_is_empty(const struct ph_link *head)
{
    return head->next == head;
}
static inline bool ph_link_is_on(const struct ph_link *link)
{
    return link->next != NULL && link->next != link;
}
static inline void ph_list_append(struct ph_link *head, struct ph_link *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}
/* Harmless on a link that is on no list (zeroed). */
static inline void ph_list_remove(struct ph_link *link)
{
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}
/* First link, taken off; NULL when empty. */
static inline struct ph_link *ph_list_take(struct ph_link *head)
{
    struct ph_link *link = head->next;
    if (link == head)
        return NULL;
    ph_list_remove(link);
    return link;
}

/* --- Addresses and paths --- */

struct ph_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } u;
    socklen_t len; /* 0: unset */
};
bool ph_addr_equal(const struct ph_addr *a, const struct ph_addr *b);
uint16_t ph_addr_port(const struct ph_addr *addr);
void ph_addr_set_port(struct ph_addr *addr, uint16_t port);
/* "127.0.0.1:80", "[::1]:80"; IPv4-mapped addresses are shown as IPv4. Returns `out`. */
const char *ph_addr_text(const struct ph_addr *addr, char *out, size_t cap);
/* Host part alone: "127.0.0.1", "::1". */
const char *ph_addr_host(const struct ph_addr *addr, char *out, size_t cap);
/* Its bytes, of an IPv4-mapped one those of the IPv4 address: 4 or 16; 0: of another family. */
size_t ph_addr_bytes(const struct ph_addr *addr, uint8_t out[16]);
/* Numeric "a.b.c.d" or v6 without brackets. PH_E_INVAL otherwise. */
int ph_addr_parse(struct ph_addr *addr, const char *host, uint16_t port);

/* A network: an address with the number of its leading bits that count. */
struct ph_net {
    uint8_t bytes[16];
    size_t n; /* of the address: 4 or 16 */
    unsigned bits;
};
int ph_net_parse(struct ph_net *net, const char *text); /* "10.0.0.0/8", "::1". PH_E_INVAL */
bool ph_net_has(const struct ph_net *net, const struct ph_addr *addr);

struct ph_path {
    struct ph_addr local, remote; /* unset on a Unix socket */
    void *sock;            /* which socket: opaque to protocol modules, compared by pointer */
    const char *unix_path; /* of the listening Unix socket, "@name" when abstract; NULL: IP.
                              Borrowed for the server's life */
};

/* --- Buffers and slices --- */

struct ph_buf {
    atomic_uint refs;
    size_t cap, len; /* bytes; a wrapped buffer may pass 4 GiB */
    uint8_t *data;
    ph_buf_release_fn release; /* NULL: plain (`data` is inline), or wrapped for ever */
    void *ctx;
    struct ph_buf *next; /* link of a home list */
};

/* Wrapped buffers whose last reference fell on the I/O thread, on their way back to the consumer.
 * (I/O thread only) */
struct ph_buf_home {
    struct ph_buf *head, *tail;
    size_t count;
};
/* Calls the release function of each buffer of a chain (linked by `next`) and frees it. Consumer
 * thread. */
void ph_buf_release_chain(struct ph_buf *chain);

/* Some bytes. With a buf it holds one reference; without it the bytes are borrowed. */
struct ph_slice {
    struct ph_buf *buf;
    const uint8_t *p;
    size_t n;
};
static inline struct ph_slice ph_slice_of(struct ph_buf *buf) /* takes the reference */
{
    return (struct ph_slice){.buf = buf, .p = buf->data, .n = buf->len};
}

/* As ph_buf_new(), for sizes that no reserve could hold: NULL when there is no memory. */
struct ph_buf *ph_buf_try_new(size_t cap);

/* A buffer that stands for `len` bytes of a file, from `offset` on; takes `fd`. There is no data:
 * its slices have p == NULL, and are for a queue that ends in ph_tcp_send_file(). Caller owns. */
struct ph_buf *ph_buf_file(int fd, uint64_t offset, size_t len);

/* FIFO of slices with a cursor: [head .. cursor) was sent and waits for its acknowledgement,
 * [cursor .. end) waits to be sent. Users without acknowledgements advance and drop together. */
struct ph_sliceq {
    struct ph_slice *ring; /* power-of-two capacity */
    uint32_t cap, head, count;
    size_t head_off; /* bytes of the head slice already dropped */
    uint32_t cur;    /* index from head of the slice under the cursor */
    size_t cur_off;  /* bytes of that slice already sent */
    size_t bytes;    /* all bytes held: sent and unsent */
    size_t unsent;   /* bytes from the cursor to the end */
};
void ph_sliceq_init(struct ph_sliceq *q);
void ph_sliceq_fini(struct ph_sliceq *q); /* drops every reference */
void ph_sliceq_push(struct ph_sliceq *q,
                    struct ph_slice slice); /* takes its reference; empty slices are dropped */
void ph_sliceq_push_copy(struct ph_sliceq *q, const void *data, size_t n);
size_t ph_sliceq_gather(const struct ph_sliceq *q, struct iovec *iov, size_t max,
                        size_t max_bytes); /* from the cursor, up to a slice of a file */
/* Bytes of a file under the cursor, with where they are; 0: what comes next is in memory. */
size_t ph_sliceq_file(const struct ph_sliceq *q, int *fd, uint64_t *offset);
void ph_sliceq_advance(struct ph_sliceq *q, size_t n); /* moves the cursor; n <= unsent */
void ph_sliceq_drop(struct ph_sliceq *q,
                    size_t n); /* drops sent bytes from the head; n <= bytes-unsent */
void ph_sliceq_drop_unsent(struct ph_sliceq *q); /* forgets what was not sent */
/* Moves n bytes in memory from the head of `from`, of which nothing may be sent and kept, to the
 * end of `to`; references, not bytes. */
void ph_sliceq_move(struct ph_sliceq *to, struct ph_sliceq *from, size_t n);

/* --- Ring and bell --- */

/* One message across the threads. */
struct ph_msg {
    uint16_t kind, flags;
    uint32_t n;
    void *chan;
    struct ph_slice s;
    uint64_t a, b, c;
};
_Static_assert(sizeof(struct ph_msg) == 64, "one cache line");

/* Bounded single-producer single-consumer ring. The consumer sleeps on an eventfd which the
 * producer writes only when the consumer said that it sleeps: at most one system call per sleep. */
struct ph_ring {
    _Alignas(64) atomic_uint head; /* written by the consumer */
    uint32_t tail_cached;          /* consumer */
    _Alignas(64) atomic_uint tail; /* written by the producer */
    uint32_t tail_local;           /* producer: published with ph_ring_publish() */
    uint32_t head_cached;          /* producer */
    _Alignas(64) atomic_uint sleeping;
    _Alignas(64) uint32_t mask; /* constant from here on */
    int bell;                   /* eventfd, nonblocking */
    struct ph_msg *slots;
};
int ph_ring_init(struct ph_ring *ring, uint32_t slots); /* power of two; PH_E_IO */
void ph_ring_fini(struct ph_ring *ring);
/* Producer. Puts a message in; false when full. Invisible until published. */
bool ph_ring_push(struct ph_ring *ring, const struct ph_msg *msg);
uint32_t ph_ring_room(struct ph_ring *ring); /* free slots, at least that many */
/* Producer. Makes pushed messages visible and rings the bell if the consumer sleeps; true when it
 * rang. */
bool ph_ring_publish(struct ph_ring *ring);
/* Producer. Makes pushed messages visible to a consumer that looks, and lets one that sleeps sleep
 * on. ph_ring_nudge() wakes it, if it sleeps and has not taken them; true when it rang. */
void ph_ring_show(struct ph_ring *ring);
bool ph_ring_nudge(struct ph_ring *ring);
bool ph_ring_is_asleep(const struct ph_ring *ring); /* a hint */
void ph_ring_wake(struct ph_ring *ring);            /* rings in any case; any thread */
/* Messages published and not taken, at some moment between call and return. Any thread. */
uint32_t ph_ring_used(const struct ph_ring *ring);
/* Consumer. false when empty. */
bool ph_ring_pop(struct ph_ring *ring, struct ph_msg *msg);
/* Consumer. Declares sleep; false when messages came meanwhile (then not asleep). */
bool ph_ring_sleep(struct ph_ring *ring);
void ph_ring_awake(struct ph_ring *ring); /* consumer, after waking: takes the bell down */
/* Consumer, woken by something else: wants no bell. One that was rung meanwhile stays up. */
void ph_ring_rise(struct ph_ring *ring);

/* --- Text (text.c) --- */

/* ASCII, not the locale's. */
static inline char ph_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}
/* The same letters, in whatever case. */
bool ph_text_same(const char *a, size_t a_len, const char *b, size_t b_len);
bool ph_text_equal(const char *p, size_t n, const char *text);
/* Without the blanks and tabs around it (RFC 9110 5.6.3). */
void ph_text_trim(const char **p, size_t *n);

/* --- Maps --- */

uint64_t ph_siphash(const uint8_t key[16], const void *data, size_t n); /* SipHash-2-4 */

/* Open addressing u64 -> pointer; keyed hash, so that peers cannot choose colliding ids. Zero is a
 * valid initial state. */
struct ph_map {
    struct ph_map_slot *slots;
    size_t cap, count, used;
    uint8_t key[16]; /* of the hash; drawn with the first entry */
};
void ph_map_init(struct ph_map *map);
void ph_map_fini(struct ph_map *map);
void *ph_map_get(const struct ph_map *map, uint64_t key);
void ph_map_put(struct ph_map *map, uint64_t key, void *value); /* replaces; value not NULL */
void *ph_map_del(struct ph_map *map, uint64_t key);             /* the value removed, or NULL */
/* Walks all entries: start with *pos = 0, ends with false. Deleting the entry just returned is
 * allowed. */
bool ph_map_next(const struct ph_map *map, size_t *pos, uint64_t *key, void **value);

/* Connection id (0 to 20 bytes) -> pointer; keyed hash, so that peers cannot choose colliding ids.
 */
struct ph_cidmap {
    struct ph_cid_slot *slots;
    size_t cap, count, used;
    uint8_t key[16];
};
void ph_cidmap_init(struct ph_cidmap *map); /* draws a random key */
void ph_cidmap_fini(struct ph_cidmap *map);
void *ph_cidmap_get(const struct ph_cidmap *map, const void *cid, size_t n);
void ph_cidmap_put(struct ph_cidmap *map, const void *cid, size_t n, void *value);
void *ph_cidmap_del(struct ph_cidmap *map, const void *cid, size_t n);

/* --- Admission (admission.c) --- */

/* What all transports share to decide whether one more connection may come in. */
struct ph_admission {
    size_t conns, max_conns;
    size_t max_per_peer; /* 0: not counted */
    struct ph_map peers; /* address or network -> connections */
    struct ph_net *uncounted;
    size_t uncounted_n;
    bool is_short; /* of memory */
    struct ph_stats *stats;
};
/* A connection's place among those of its peer. Zero: it has none. */
struct ph_admitted {
    uint64_t key;
    bool is_counted;
};
enum ph_admit { PH_ADMIT_OK, PH_ADMIT_FULL, PH_ADMIT_PEER, PH_ADMIT_MEMORY };
/* `stats` is borrowed. */
void ph_admission_init(struct ph_admission *adm, size_t max_conns, size_t max_per_peer,
                       struct ph_stats *stats);
void ph_admission_fini(struct ph_admission *adm);
void ph_admission_except(struct ph_admission *adm, const struct ph_net *net); /* is not counted */
/* Whether one more may come; counts refusals. Takes no place. */
enum ph_admit ph_admission_check(const struct ph_admission *adm, const struct ph_addr *remote);
void ph_admission_enter(struct ph_admission *adm);
void ph_admission_leave(struct ph_admission *adm);
/* Takes a place of the peer's, whose address is proven. false: it has none left (counted). */
bool ph_admission_enter_peer(struct ph_admission *adm, const struct ph_addr *remote,
                             struct ph_admitted *out);
void ph_admission_leave_peer(struct ph_admission *adm, struct ph_admitted *admitted);
const char *ph_admit_name(enum ph_admit verdict); /* the option that refused */

/* --- Wire format --- */

#define PH_VARINT_MAX ((UINT64_C(1) << 62) - 1)
size_t ph_varint_len(uint64_t v);               /* 1, 2, 4 or 8 */
uint8_t *ph_varint_put(uint8_t *p, uint64_t v); /* shortest form; returns the end */
size_t ph_varint_get(const uint8_t *p, size_t n,
                     uint64_t *v);           /* bytes used, 0 when more are needed */
uint8_t *ph_u16_put(uint8_t *p, uint16_t v); /* big-endian */
uint8_t *ph_u32_put(uint8_t *p, uint32_t v);
uint16_t ph_u16_get(const uint8_t *p);
uint32_t ph_u32_get(const uint8_t *p);

/* A varint that arrives in pieces. Zero is its initial state. */
struct ph_varint_reader {
    uint64_t value;
    uint8_t left; /* bytes still missing; meaningful once started */
    bool started;
};
/* Takes bytes from [*p, end). true: `value` is complete and the reader is ready for the next. */
bool ph_varint_feed(struct ph_varint_reader *reader, const uint8_t **p, const uint8_t *end);

/* true when [p, p+n) is valid UTF-8 (no surrogates, no overlong forms). */
bool ph_utf8_is_valid(const uint8_t *p, size_t n);
/* Largest k <= max so that the first k of n bytes end on a character boundary. */
size_t ph_utf8_cut(const uint8_t *p, size_t n, size_t max);

#endif
