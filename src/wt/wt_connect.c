/*
 * wt_connect.c - from the CONNECT request to the open session, both roles (draft-16 section 3).
 *
 * Server: h3 hands over an extended CONNECT once the client's SETTINGS are known -> token,
 * requirements, session limits, Origin -> the owner is asked -> ph_wt_session_accept() or
 * _reject(). Whatever fails before the owner is asked is answered here and leaves no session.
 * Client: ph_wt_connect() -> CONNECT -> the response opens or ends the session.
 *
 * The draft is the highest for which both sides sent a setting; it decides about the number of
 * sessions only, since the bytes of all drafts are the same otherwise.
 */
#include "wt_internal.h"

enum {
    DRAFT_LATEST = 15, /* also what a client without any setting of ours gets */
    DRAFT_POOLING_NEEDS_FLOW_CONTROL = 13
};

static const char FIELD_DRAFT02_OFFER[] = "sec-webtransport-http3-draft02";
static const char FIELD_DRAFT02_ANSWER[] = "sec-webtransport-http3-draft";
static const char FIELD_OFFERED[] = "wt-available-protocols";
static const char FIELD_CHOSEN[] = "wt-protocol";

static struct ph_field field_of(const char *name, const char *value)
{
    return (struct ph_field){
        .name = name, .name_len = strlen(name), .value = value, .value_len = strlen(value)};
}

int ph_wt_draft_of(const struct ph_h3_settings *settings)
{
    if (settings == NULL)
        return 0;
    if (settings->wt_draft15 == 1)
        return 15;
    if (settings->wt_draft13 > 0)
        return 13;
    if (settings->wt_draft07 > 0)
        return 7;
    return settings->wt_draft02 == 1 ? 2 : 0;
}

/* --- Server: before the owner is asked --- */

static bool is_token(const char *protocol)
{
    return strcmp(protocol, "webtransport") == 0 || strcmp(protocol, "webtransport-h3") == 0;
}

/* Streams and datagrams of a session that will not be. */
static void drop_held(struct wt_conn *conn, uint64_t id)
{
    ph_wt_conn_forget(conn, id);
    ph_wt_pending_refuse(conn, id, PH_WT_BUFFERED_STREAM_REJECTED);
}

static void refuse_status(struct wt_conn *conn, struct ph_h3_request *request, int status)
{
    drop_held(conn, ph_h3_request_id(request));
    ph_h3_request_respond(request, status, NULL, 0, true);
    ph_h3_request_stop(request, PH_H3_NO_ERROR); /* RFC 9114 4.1: no interest in the rest */
}

static void refuse_reset(struct wt_conn *conn, struct ph_h3_request *request, uint64_t code)
{
    drop_held(conn, ph_h3_request_id(request));
    ph_h3_request_reset(request, code);
}

/* Sessions at once and a second. Without flow control capsules, drafts from 13 on allow one session
 * a connection (draft-16 section 3.4). */
static bool has_room(struct wt_conn *conn, int draft)
{
    const struct ph_wt_config *config = &conn->wt->config;
    uint32_t limit = config->max_sessions, count = 0;
    if (draft >= DRAFT_POOLING_NEEDS_FLOW_CONTROL)
        limit = PH_MIN(limit, 1);
    for (struct ph_link *link = conn->sessions.next; link != &conn->sessions; link = link->next) {
        enum wt_session_state state = PH_CONTAINER(link, struct ph_wt_session, link)->state;
        if (state == WT_ASKED || state == WT_OPEN)
            count++;
    }
    return count < limit && ph_bucket_take(&conn->session_budget, 1, ph_wt_conn_now(conn));
}

static void read_offered(struct ph_wt_session *session, const struct ph_head *head)
{
    char *joined = NULL;
    size_t len = 0;
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct ph_field *field = &head->fields.list[i];
        if (field->name_len != sizeof FIELD_OFFERED - 1 ||
            memcmp(field->name, FIELD_OFFERED, field->name_len) != 0)
            continue;
        joined = ph_realloc(joined, len + field->value_len + 1);
        if (len > 0)
            joined[len++] = ','; /* RFC 8941 4.2: several lines are one list */
        memcpy(joined + len, field->value, field->value_len);
        len += field->value_len;
    }
    if (joined == NULL)
        return;
    int count = ph_wt_protocols_parse(&session->offered, joined, len);
    session->offered_len = count > 0 ? (size_t)count : 0;
    ph_free(joined);
}

bool ph_wt_on_connect(void *self, struct ph_h3_conn *h3, struct ph_h3_request *request,
                      const struct ph_head *head)
{
    struct ph_wt *wt = self;
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    if (conn == NULL || !is_token(head->protocol))
        return false;
    const struct ph_h3_settings *settings = ph_h3_conn_settings(h3);
    ph_h3_request_set_user(request, NULL);
    if (settings == NULL || !settings->h3_datagram) {
        /* Draft-16 section 3.1: requirements not met make the request malformed. */
        ph_count(wt->stats, protocol_errors);
        refuse_reset(conn, request, PH_H3_MESSAGE_ERROR);
        return true;
    }
    int draft = ph_wt_draft_of(settings);
    if (draft == 0)
        draft = DRAFT_LATEST;
    if (!has_room(conn, draft)) {
        ph_count(wt->stats, limit_sessions);
        refuse_reset(conn, request, PH_H3_REQUEST_REJECTED);
        return true;
    }
    if (strcmp(head->scheme, "https") != 0 || head->authority_len == 0 || head->target[0] != '/') {
        refuse_status(conn, request, 400);
        return true;
    }
    if (!ph_origin_is_allowed(wt->config.allowed_origins, wt->config.allowed_origins_len, head)) {
        ph_count(wt->stats, origins_refused);
        refuse_status(conn, request, 403);
        return true;
    }
    struct ph_wt_session *session = ph_wt_session_new(conn, request);
    session->state = WT_ASKED;
    session->draft = draft;
    read_offered(session, head);
    ph_wt_timer_set(&session->timer, &wt->asked, ph_wt_conn_now(conn) + wt->config.accept_timeout);
    ph_wt_pending_session_known(conn, session->id);
    wt->sink.on_session(wt->sink.self, session);
    return true;
}

/* --- Server: the owner's answer --- */

static bool is_offered(const struct ph_wt_session *session, const char *value)
{
    for (size_t i = 0; i < session->offered_len; i++) {
        if (strcmp(session->offered[i], value) == 0)
            return true;
    }
    return false;
}

/* Adds a field of the owner's with its name in lower case. */
static int add_field(struct ph_fields *out, const struct ph_field *field)
{
    if (!ph_field_name_is_valid(field->name, field->name_len) ||
        !ph_field_value_is_valid(field->value, field->value_len))
        return PH_E_INVAL;
    char *name = ph_strndup(field->name, field->name_len);
    for (size_t i = 0; i < field->name_len; i++) {
        if (name[i] >= 'A' && name[i] <= 'Z')
            name[i] = (char)(name[i] - 'A' + 'a');
    }
    int rc = PH_E_INVAL;
    if (!ph_field_is_connection_specific(name, field->name_len) && strcmp(name, FIELD_CHOSEN) != 0)
        rc = ph_fields_add(out, name, field->name_len, field->value, field->value_len, NULL);
    ph_free(name);
    return rc;
}

static int build_answer(const struct ph_wt_session *session, struct ph_fields *out,
                        const struct ph_field *fields, size_t n, const char *subprotocol)
{
    const struct ph_head *head = ph_h3_request_head(session->request);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = add_field(out, &fields[i]);
    if (rc == 0 && ph_fields_get(&head->fields, FIELD_DRAFT02_OFFER) != NULL)
        rc = ph_fields_add(out, FIELD_DRAFT02_ANSWER, sizeof FIELD_DRAFT02_ANSWER - 1, "draft02", 7,
                           NULL);
    if (rc == 0 && subprotocol != NULL) {
        size_t len = strlen(subprotocol);
        char *text = ph_alloc(2 * len + 3);
        len = ph_wt_protocol_put(text, subprotocol, len);
        rc = len == 0 ? PH_E_INVAL
                      : ph_fields_add(out, FIELD_CHOSEN, sizeof FIELD_CHOSEN - 1, text, len, NULL);
        ph_free(text);
    }
    ph_fields_seal(out);
    return rc;
}

int ph_wt_session_accept(struct ph_wt_session *session, const struct ph_field *fields, size_t n,
                         const char *subprotocol)
{
    struct ph_fields answer = {0};
    if (session->state != WT_ASKED)
        return session->state == WT_OVER ? PH_E_CLOSED : PH_E_STATE;
    if (subprotocol != NULL && !is_offered(session, subprotocol))
        return PH_E_INVAL;
    int rc = build_answer(session, &answer, fields, n, subprotocol);
    if (rc == 0)
        rc = ph_h3_request_respond(session->request, 200, answer.list, answer.count, false);
    ph_fields_fini(&answer);
    if (rc != 0)
        return rc;
    session->state = WT_OPEN;
    ph_wt_timer_stop(&session->timer);
    ph_wt_datagrams_open(session);
    ph_log(PH_LOG_DEBUG, "session: open id=%llu draft=%d", (unsigned long long)session->id,
           session->draft);
    if (session->conn->wt->draining)
        ph_wt_session_drain_local(session);
    ph_wt_session_release(session);
    return 0;
}

struct ph_exchange *ph_wt_session_reject(struct ph_wt_session *session)
{
    struct ph_h3_request *request = session->request;
    if (session->state != WT_ASKED)
        return NULL;
    session->state = WT_OVER;
    if (session->early_len > 0)
        ph_h3_request_consume(request, session->early_len);
    drop_held(session->conn, session->id);
    ph_wt_session_detach(session);
    return ph_h3_request_to_exchange(request);
}

/* No answer within accept_timeout. */
void ph_wt_connect_expired(struct ph_wt_session *session)
{
    struct ph_wt_end end = {0};
    ph_count(session->conn->wt->stats, timeouts_accept);
    refuse_status(session->conn, session->request, 503);
    ph_wt_session_finish(session, &end);
}

/* --- Client --- */

static bool server_has_webtransport(struct ph_h3_conn *h3)
{
    const struct ph_h3_settings *settings = ph_h3_conn_settings(h3);
    int draft = ph_wt_draft_of(settings);
    if (draft == 0 || !settings->h3_datagram || ph_quic_conn_max_datagram(ph_h3_conn_quic(h3)) == 0)
        return false;
    return draft == 2 || settings->enable_connect_protocol; /* draft-02 implies it */
}

/* WT-Available-Protocols: an sf-list of strings; NULL when there is nothing to offer. */
static char *offer_text(const char *const *offered, size_t n)
{
    size_t cap = 1, len = 0;
    for (size_t i = 0; i < n; i++)
        cap += 2 * strlen(offered[i]) + 5;
    char *text = ph_alloc(cap);
    for (size_t i = 0; i < n; i++) {
        size_t put =
            ph_wt_protocol_put(text + len + (len > 0 ? 2 : 0), offered[i], strlen(offered[i]));
        if (put == 0)
            continue;
        if (len > 0) {
            memcpy(text + len, ", ", 2);
            len += 2;
        }
        len += put;
    }
    text[len] = '\0';
    if (len > 0)
        return text;
    ph_free(text);
    return NULL;
}

static int send_connect(struct ph_h3_conn *h3, struct ph_h3_request **out, const char *authority,
                        const char *path, const struct ph_field *fields, size_t n,
                        const char *offer)
{
    bool is_latest = ph_wt_draft_of(ph_h3_conn_settings(h3)) >= 15;
    struct ph_field *list = ph_alloc((n + 7) * sizeof *list);
    size_t count = 0;
    list[count++] = field_of(":method", "CONNECT");
    list[count++] = field_of(":protocol", is_latest ? "webtransport-h3" : "webtransport");
    list[count++] = field_of(":scheme", "https");
    list[count++] = field_of(":authority", authority);
    list[count++] = field_of(":path", path);
    for (size_t i = 0; i < n; i++)
        list[count++] = fields[i];
    list[count++] = field_of(FIELD_DRAFT02_OFFER, "1");
    if (offer != NULL)
        list[count++] = field_of(FIELD_OFFERED, offer);
    int rc = ph_h3_connect(h3, out, list, count);
    ph_free(list);
    return rc;
}

struct ph_wt_session *ph_wt_connect(struct ph_wt *wt, struct ph_h3_conn *h3, const char *authority,
                                    const char *path, const struct ph_field *fields, size_t n,
                                    const char *const *offered, size_t offered_len, void *user)
{
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    struct ph_h3_request *request = NULL;
    (void)wt;
    if (conn == NULL || conn->goaway || !server_has_webtransport(h3))
        return NULL;
    char *offer = offered_len > 0 ? offer_text(offered, offered_len) : NULL;
    int rc = send_connect(h3, &request, authority, path, fields, n, offer);
    ph_free(offer);
    if (rc != 0)
        return NULL;
    struct ph_wt_session *session = ph_wt_session_new(conn, request);
    session->state = WT_CONNECTING;
    session->is_client = true;
    session->draft = ph_wt_draft_of(ph_h3_conn_settings(h3));
    session->user = user;
    if (offered_len > 0) {
        session->offered = ph_alloc(offered_len * sizeof *session->offered);
        for (size_t i = 0; i < offered_len; i++)
            session->offered[i] = ph_strdup(offered[i]);
        session->offered_len = offered_len;
    }
    ph_wt_datagrams_open(session);
    return session;
}

/* The server's choice: a member of session->offered, or NULL for none. false: not offered. */
static bool read_chosen(const struct ph_wt_session *session, const struct ph_head *head,
                        const char **chosen)
{
    const struct ph_field *field = ph_fields_get(&head->fields, FIELD_CHOSEN);
    char **list = NULL;
    *chosen = NULL;
    if (field == NULL)
        return true;
    int count = ph_wt_protocols_parse(&list, field->value, field->value_len);
    if (count < 0)
        return true; /* malformed is as absent */
    for (size_t i = 0; count == 1 && i < session->offered_len; i++) {
        if (strcmp(session->offered[i], list[0]) == 0)
            *chosen = session->offered[i];
    }
    ph_wt_protocols_free(list, count > 0 ? (size_t)count : 0);
    return count != 1 || *chosen != NULL;
}

void ph_wt_on_response(void *self, struct ph_h3_request *request, const struct ph_head *head)
{
    struct ph_wt *wt = self;
    struct ph_wt_session *session = ph_h3_request_user(request);
    const char *chosen;
    if (session == NULL || session->state != WT_CONNECTING || head->status < 200)
        return;
    if (head->status >= 300) { /* redirects are not followed (draft-16 section 3.2) */
        struct ph_wt_end end = {.status = head->status};
        ph_h3_request_reset(request, PH_H3_REQUEST_CANCELLED);
        ph_wt_session_finish(session, &end);
        return;
    }
    session->state = WT_OPEN;
    if (!read_chosen(session, head, &chosen)) {
        ph_wt_session_close(session, (uint32_t)PH_WT_ALPN_ERROR, "", 0);
        return;
    }
    if (wt->sink.on_session_ready != NULL)
        wt->sink.on_session_ready(wt->sink.self, session, chosen);
    ph_wt_session_release(session);
}
