/*
 * base.c - assertions, clock, random, log, counters, token buckets, live objects.
 *
 * Not in the data path itself: everything else stands on it. Invariants:
 * - ph_random() never fails; a process that cannot have entropy stops;
 * - the only process-wide mutable state are the live-object counters (atomic) and one pointer a
 *   thread, which says where log lines and homeward buffers of that thread go and what it has in
 *   reserve;
 * - ph_log() formats nothing when nobody listens at that level.
 */
#include "base.h"

#include "base_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

/* Longest log line, bytes; longer ones end in "...". Callers put at most a path, an address and an
 * escaped name into one. */
#define PH_LOG_LINE_MAX 1024

/* --- Version and errors --- */

const char *ph_version(void)
{
    return PH_VERSION_STRING;
}

const char *ph_strerror(int code)
{
    switch (code) {
    case PH_OK:
        return "success";
    case PH_E_AGAIN:
        return "nothing was done, try again later";
    case PH_E_INVAL:
        return "an argument is out of its range";
    case PH_E_STATE:
        return "the object is in a state that does not allow this call";
    case PH_E_CLOSED:
        return "the channel or connection is closed";
    case PH_E_LIMIT:
        return "a limit was reached";
    case PH_E_CONFIG:
        return "an option has a bad value";
    case PH_E_IO:
        return "the system refused an input or output operation";
    case PH_E_TLS:
        return "a certificate or key cannot be used";
    case PH_E_NOTFOUND:
        return "there is no such thing";
    case PH_E_BLOCKED:
        return "the peer's limit is used up for now";
    case PH_E_TOOBIG:
        return "the message is larger than the path allows";
    case PH_E_MALFORMED:
        return "the peer's message is malformed";
    case PH_E_PROTO:
        return "the peer broke the protocol";
    case PH_E_CRYPTO:
        return "the handshake failed";
    case PH_E_INTERNAL:
        return "a library failed";
    default: /* an int from outside, not an enum: any value may come */
        return code <= PH_E_FATAL ? "the connection is dead" : "unknown error";
    }
}

int ph_fail(struct ph_err *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return code;
}

/* --- Assertions, time --- */

_Noreturn void ph_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "pronghorn: bug: %s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

uint64_t ph_clock_now(void)
{
    struct timespec ts;
    PH_ASSERT(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    return (uint64_t)ts.tv_sec * PH_SEC + (uint64_t)ts.tv_nsec;
}

void ph_random(void *out, size_t n)
{
    uint8_t *p = out;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        PH_ASSERT(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

void ph_copy(struct ph_stats *stats, void *to, const void *from, size_t n)
{
    if (n == 0)
        return;
    memcpy(to, from, n);
    if (stats != NULL)
        ph_count_add(stats, copied, n);
}

/* --- Live objects --- */

/* One cache line a kind, so that two threads counting different kinds do not fight. */
struct live_counter {
    _Alignas(64) atomic_llong count;
};
static struct live_counter live[PH_LIVE_COUNT]; /* shared: atomic */

static const char *const live_names[PH_LIVE_COUNT] = {
#define PH_LIVE_NAME(id, text) text,
    PH_LIVE_LIST(PH_LIVE_NAME)
#undef PH_LIVE_NAME
};

void ph_live_add(enum ph_live kind, int delta)
{
    /* Relaxed: a counter orders nothing. */
    atomic_fetch_add_explicit(&live[kind].count, delta, memory_order_relaxed);
}

int64_t ph_live_get(enum ph_live kind)
{
    return atomic_load_explicit(&live[kind].count, memory_order_relaxed); /* relaxed: as above */
}

int ph_live_objects(size_t index, const char **name, int64_t *count)
{
    if (index >= PH_LIVE_COUNT)
        return PH_E_NOTFOUND;
    *name = live_names[index];
    *count = ph_live_get((enum ph_live)index);
    return PH_OK;
}

/* --- Token buckets --- */

void ph_bucket_init(struct ph_bucket *bucket, uint64_t burst, uint64_t rate, uint64_t now)
{
    PH_ASSERT(burst <= UINT64_MAX / PH_SEC); /* keeps the products below in range */
    *bucket = (struct ph_bucket){
        .burst = burst,
        .rate = rate,
        .milli_tokens = burst * 1000,
        .last = now,
    };
}

static void bucket_refill(struct ph_bucket *bucket, uint64_t now)
{
    uint64_t missing = bucket->burst * 1000 - bucket->milli_tokens;
    if (now <= bucket->last)
        return;
    if (missing == 0 || bucket->rate == 0) {
        bucket->last = now;
        return;
    }
    uint64_t elapsed = now - bucket->last;
    if (elapsed >= missing * PH_MSEC / bucket->rate + 1) {
        bucket->milli_tokens += missing;
        bucket->last = now;
        return;
    }
    /* The part of the time that did not make a whole thousandth stays for the next refill. */
    uint64_t gained = elapsed * bucket->rate / PH_MSEC;
    bucket->milli_tokens += PH_MIN(gained, missing);
    bucket->last += (gained * PH_MSEC + bucket->rate - 1) / bucket->rate;
}

bool ph_bucket_take(struct ph_bucket *bucket, uint64_t tokens, uint64_t now)
{
    bucket_refill(bucket, now);
    if (tokens > bucket->milli_tokens / 1000)
        return false;
    bucket->milli_tokens -= tokens * 1000;
    return true;
}

/* --- Log --- */

static _Thread_local const struct ph_thread *thread_env;

void ph_thread_set(const struct ph_thread *env)
{
    thread_env = env;
}

struct ph_buf_home *ph_thread_home(void)
{
    return thread_env != NULL ? thread_env->home : NULL;
}

struct ph_reserve *ph_thread_reserve(void)
{
    return thread_env != NULL ? thread_env->reserve : NULL;
}

static bool is_logged(enum ph_log_level level)
{
    if (thread_env != NULL && thread_env->log != NULL)
        return level >= thread_env->level;
    return level >= PH_LOG_WARNING;
}

static const char *level_name(enum ph_log_level level)
{
    switch (level) {
    case PH_LOG_DEBUG:
        return "debug";
    case PH_LOG_INFO:
        return "info";
    case PH_LOG_WARNING:
        return "warning";
    case PH_LOG_ERROR:
        return "error";
    }
    return "log";
}

__attribute__((format(printf, 2, 0))) static void log_va(enum ph_log_level level, const char *fmt,
                                                         va_list ap)
{
    char line[PH_LOG_LINE_MAX];
    int len = vsnprintf(line, sizeof(line), fmt, ap);
    if (len < 0)
        return;
    size_t n = (size_t)len;
    if (n >= sizeof(line)) {
        n = sizeof(line) - 1;
        memcpy(line + n - 3, "...", 3);
    }
    if (thread_env != NULL && thread_env->log != NULL)
        thread_env->log(thread_env->self, level, line, n);
    else
        fprintf(stderr, "pronghorn: %s: %s\n", level_name(level), line);
}

void ph_log(enum ph_log_level level, const char *fmt, ...)
{
    if (!is_logged(level))
        return;
    va_list ap;
    va_start(ap, fmt);
    log_va(level, fmt, ap);
    va_end(ap);
}

void ph_log_limited(struct ph_bucket *bucket, uint64_t now, enum ph_log_level level,
                    const char *fmt, ...)
{
    if (!is_logged(level))
        return;
    if (bucket->burst == 0) /* zero is its initial state */
        ph_bucket_init(bucket, 1, 1, now);
    if (!ph_bucket_take(bucket, 1, now))
        return;
    va_list ap;
    va_start(ap, fmt);
    log_va(level, fmt, ap);
    va_end(ap);
}

const char *ph_escape(char *out, size_t cap, const void *data, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = data;
    size_t at = 0;
    if (cap == 0)
        return out;
    for (size_t i = 0; i < n; i++) {
        bool plain = p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\';
        size_t need = plain ? 1 : 4;
        if (need > cap - 1 - at)
            break;
        if (plain) {
            out[at++] = (char)p[i];
            continue;
        }
        out[at++] = '\\';
        out[at++] = 'x';
        out[at++] = hex[p[i] >> 4];
        out[at++] = hex[p[i] & 15];
    }
    out[at] = '\0';
    return out;
}
