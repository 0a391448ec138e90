/*
 * exchange.c - one request with its response, whatever the version of HTTP.
 *
 *      engine (h1, h2, h3) --on_body, on_end--> exchange --> sink (owner)
 *      owner --respond, write, trailers--> exchange (checks) --ops--> engine
 *
 * The engine is told only what RFC 9110 allows: fields that are well-formed and not the
 * connection's business, no body where there can be none, exactly the declared length. An
 * application that breaks its own declaration is answered by an abort, which the client sees as
 * such (a reset, or a connection closed in the middle): never by padding or by a clean end.
 */
#include "http_internal.h"

void ph_exchange_init(struct ph_exchange *ex, const struct ph_exchange_ops *ops,
                      const struct ph_exchange_sink *sink)
{
    *ex = (struct ph_exchange){.ops = ops, .sink = sink};
    ph_live_add(PH_LIVE_EXCHANGE, 1);
}

void ph_exchange_fini(struct ph_exchange *ex)
{
    ph_head_fini(&ex->head);
    ph_live_add(PH_LIVE_EXCHANGE, -1);
}

/* --- Towards the client --- */

static bool is_named(const struct ph_field *field, const char *name)
{
    return strlen(name) == field->name_len && memcmp(field->name, name, field->name_len) == 0;
}

static bool is_valid_field(const struct ph_field *field)
{
    return ph_field_name_is_lower(field->name, field->name_len) &&
           ph_field_value_is_valid(field->value, field->value_len);
}

/* What a response head says beyond its fields. */
struct verdict {
    size_t kept; /* fields that go out */
    bool has_length, close;
    uint64_t length;
};

static bool is_kept(const struct ph_field *field, int status)
{
    /* RFC 9110 8.6: no Content-Length in 1xx and 204. */
    bool no_length = status < 200 || status == 204;
    return !ph_field_is_connection_specific(field->name, field->name_len) &&
           !(no_length && is_named(field, "content-length"));
}

static int check_fields(const struct ph_field *fields, size_t n, int status,
                        struct verdict *verdict)
{
    *verdict = (struct verdict){.kept = 0};
    for (size_t i = 0; i < n; i++) {
        const struct ph_field *field = &fields[i];
        if (!is_valid_field(field))
            return PH_E_INVAL;
        if (is_named(field, "connection") && ph_list_has(field->value, field->value_len, "close"))
            verdict->close = true;
        if (is_named(field, "content-length")) {
            if (verdict->has_length ||
                ph_content_length_parse(field->value, field->value_len, &verdict->length) != 0)
                return PH_E_INVAL;
            verdict->has_length = true;
        }
        if (is_kept(field, status))
            verdict->kept++;
    }
    return 0;
}

static void hand_over(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                      bool fin)
{
    if (!ex->is_tunnel)
        ex->ops->respond(ex, status, fields, n, fin);
    else if (ex->ops->upgrade != NULL)
        ex->ops->upgrade(ex, fields, n);
    else
        ex->ops->respond(ex, 200, fields, n, false);
}

/* Hands the head to the engine without the fields that are not kept. */
static void send_head(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                      const struct verdict *verdict, bool fin)
{
    if (verdict->kept == n) {
        hand_over(ex, status, fields, n, fin);
        return;
    }
    struct ph_field *kept = ph_alloc((verdict->kept + 1) * sizeof(*kept));
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_kept(&fields[i], status))
            kept[count++] = fields[i];
    }
    hand_over(ex, status, kept, count, fin);
    ph_free(kept);
}

static bool asks_tunnel(const struct ph_exchange *ex)
{
    return ex->head.protocol != NULL && ex->head.protocol[0] != '\0';
}

int ph_exchange_upgrade(struct ph_exchange *ex, const struct ph_field *fields, size_t n)
{
    struct verdict verdict;
    if (ex->is_aborted)
        return PH_E_CLOSED;
    if (ex->out != PH_EX_HEAD || !asks_tunnel(ex))
        return PH_E_STATE;
    /* RFC 9110 9.3.6, 8.6: neither 101 nor 2xx to CONNECT has a Content-Length. */
    if (check_fields(fields, n, 101, &verdict) != 0)
        return PH_E_INVAL;
    ex->is_tunnel = true;
    ex->out = PH_EX_BODY;
    send_head(ex, 101, fields, n, &verdict, false);
    return 0;
}

int ph_exchange_respond(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                        bool fin)
{
    if (ex->is_aborted)
        return PH_E_CLOSED;
    if (ex->out != PH_EX_HEAD)
        return PH_E_STATE;
    struct verdict verdict;
    if (status < 100 || status > 999 || status == 101 || (status < 200 && fin) ||
        check_fields(fields, n, status, &verdict) != 0)
        return PH_E_INVAL;
    if (status < 200) {
        if (ex->head.version != 10) /* RFC 9110 15.2 */
            send_head(ex, status, fields, n, &verdict, false);
        return 0;
    }
    bool is_head = ex->head.method != NULL && strcmp(ex->head.method, "HEAD") == 0;
    bool bodiless = is_head || status == 204 || status == 304;
    if (fin && !bodiless && verdict.has_length && verdict.length != 0)
        return PH_E_INVAL;
    ex->out_is_bodiless = bodiless;
    ex->out_close = verdict.close;
    ex->out_has_length = verdict.has_length && status != 204;
    ex->out_length = ex->out_has_length ? verdict.length : 0;
    ex->out = fin ? PH_EX_DONE : PH_EX_BODY;
    send_head(ex, status, fields, n, &verdict, fin);
    return 0;
}

/* The application said one length and means another. */
static int break_off(struct ph_exchange *ex)
{
    ph_exchange_reset(ex, PH_H3_INTERNAL_ERROR);
    return PH_E_INVAL;
}

int ph_exchange_write(struct ph_exchange *ex, struct ph_slice slice, bool fin)
{
    int rv = ex->is_aborted ? PH_E_CLOSED : ex->out != PH_EX_BODY ? PH_E_STATE : 0;
    if (rv != 0 || ex->out_is_bodiless) {
        size_t swallowed = slice.n;
        ph_buf_unref(slice.buf);
        if (rv != 0)
            return rv;
        if (swallowed > 0)
            ex->sink->on_acked(ex->sink->self, ex, swallowed);
        slice = (struct ph_slice){.buf = NULL, .p = NULL, .n = 0};
    } else if (ex->out_has_length) {
        uint64_t left = ex->out_length - ex->out_bytes;
        if (slice.n > left || (fin && slice.n < left)) {
            ph_buf_unref(slice.buf);
            return break_off(ex);
        }
    }
    ex->out_bytes += slice.n;
    if (fin)
        ex->out = PH_EX_DONE;
    if (slice.n > 0 || fin)
        ex->ops->write(ex, slice, fin);
    else
        ph_buf_unref(slice.buf);
    return 0;
}

/* RFC 9110 6.5.1: trailers only for who asked. */
static bool wants_trailers(const struct ph_exchange *ex)
{
    if (ex->head.version == 10)
        return false;
    for (size_t i = 0; i < ex->head.fields.count; i++) {
        const struct ph_field *field = &ex->head.fields.list[i];
        if (is_named(field, "te") && ph_list_has(field->value, field->value_len, "trailers"))
            return true;
    }
    return false;
}

int ph_exchange_trailers(struct ph_exchange *ex, const struct ph_field *fields, size_t n)
{
    if (ex->is_aborted)
        return PH_E_CLOSED;
    if (ex->out != PH_EX_BODY)
        return PH_E_STATE;
    for (size_t i = 0; i < n; i++) {
        if (!is_valid_field(&fields[i]) ||
            ph_field_is_forbidden_trailer(fields[i].name, fields[i].name_len))
            return PH_E_INVAL;
    }
    if (n == 0 || ex->out_is_bodiless || !wants_trailers(ex))
        return ph_exchange_write(ex, (struct ph_slice){.buf = NULL}, true);
    if (ex->out_has_length && ex->out_bytes != ex->out_length)
        return break_off(ex);
    ex->out = PH_EX_DONE;
    ex->ops->trailers(ex, fields, n);
    return 0;
}

void ph_exchange_consume(struct ph_exchange *ex, size_t n)
{
    if (!ex->is_aborted)
        ex->ops->consume(ex, n);
}

void ph_exchange_reset(struct ph_exchange *ex, uint64_t code)
{
    if (ex->is_aborted)
        return;
    ex->is_aborted = true;
    ex->ops->reset(ex, code);
}

void ph_exchange_stop(struct ph_exchange *ex, uint64_t code)
{
    if (!ex->is_aborted && ex->in != PH_EX_DONE)
        ex->ops->stop(ex, code);
}

/* --- Towards the owner --- */

/* RFC 9110 9.3.6: content of a CONNECT has no meaning, and so has no length of it. */
static bool has_declared(const struct ph_exchange *ex)
{
    return ex->head.has_length && !asks_tunnel(ex);
}

int ph_exchange_on_body(struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    PH_ASSERT(ex->in != PH_EX_DONE);
    if (has_declared(ex) && n > ex->head.length - ex->in_bytes)
        return PH_E_MALFORMED;
    ex->in = PH_EX_BODY;
    ex->in_bytes += n;
    if (n > 0)
        ex->sink->on_body(ex->sink->self, ex, data, n);
    return 0;
}

int ph_exchange_on_end(struct ph_exchange *ex)
{
    PH_ASSERT(ex->in != PH_EX_DONE);
    if (has_declared(ex) && ex->in_bytes != ex->head.length)
        return PH_E_MALFORMED;
    ex->in = PH_EX_DONE;
    ex->sink->on_end(ex->sink->self, ex);
    return 0;
}
