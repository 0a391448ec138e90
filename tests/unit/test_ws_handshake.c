/* test_ws_handshake.c - what a handshake must say, what it may ask for, and what it is answered. */
#include "ws_rig.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="

struct hand {
    struct ph_head head;
    struct ph_ws_config config;
    struct ph_ws_ask ask;
    struct ph_ws_refusal refusal;
    char text[2048]; /* of the answer */
};

static struct hand *hand_new(int version)
{
    struct hand *hand = ph_alloc(sizeof(*hand));
    hand->head = (struct ph_head){.version = version,
                                  .method = "GET",
                                  .scheme = "https",
                                  .authority = "example.com",
                                  .authority_len = 11,
                                  .target = "/",
                                  .protocol = "websocket"};
    ph_ws_config_default(&hand->config);
    return hand;
}

static void hand_add(struct hand *hand, const char *name, const char *value)
{
    ph_fields_add(&hand->head.fields, name, strlen(name), value, strlen(value), NULL);
}

static struct hand *hand_valid(int version)
{
    struct hand *hand = hand_new(version);
    hand_add(hand, "sec-websocket-version", "13");
    if (version < 20)
        hand_add(hand, "sec-websocket-key", KEY);
    return hand;
}

static void hand_free(struct hand *hand)
{
    ph_ws_ask_fini(&hand->ask);
    ph_fields_fini(&hand->head.fields);
    ph_free(hand);
}

/* 0, or the status of the refusal. */
static int hand_read(struct hand *hand)
{
    ph_fields_seal(&hand->head.fields);
    int rc = ph_ws_ask_read(&hand->ask, &hand->config, &hand->head, &hand->refusal);
    CHECK(rc == 0 || rc == PH_E_INVAL);
    return rc == 0 ? 0 : hand->refusal.status;
}

static const char *hand_answer(struct hand *hand, const char *subprotocol)
{
    struct ph_field own = {"x-own", "1", 5, 1};
    struct ph_fields out = {0};
    size_t len = 0;
    CHECK_INT(ph_ws_ask_answer(&hand->ask, &out, &own, 1, subprotocol), ==, 0);
    for (size_t i = 0; i < out.count; i++)
        len += (size_t)snprintf(hand->text + len, sizeof(hand->text) - len, "%s: %s\n",
                                out.list[i].name, out.list[i].value);
    ph_fields_fini(&out);
    return hand->text;
}

TEST(ws_handshake, the_example_of_the_rfc)
{
    struct hand *hand = hand_valid(11);
    CHECK_INT(hand_read(hand), ==, 0);
    CHECK_STR(hand_answer(hand, NULL),
              "x-own: 1\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n");
    hand_free(hand);
}

/* 63 */
TEST(ws_handshake, versions)
{
    static const char *const bad[] = {"", "8", "12", "14", "013", "13, 8", "x"};
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct hand *hand = hand_new(11);
        hand_add(hand, "sec-websocket-version", bad[i]);
        hand_add(hand, "sec-websocket-key", KEY);
        CHECK_INT(hand_read(hand), ==, 426);
        hand_free(hand);
    }
    struct hand *hand = hand_valid(11);
    hand_add(hand, "sec-websocket-version", "13");
    CHECK_INT(hand_read(hand), ==, 426);
    hand_free(hand);
    hand = hand_new(30);
    CHECK_INT(hand_read(hand), ==, 426);
    hand_free(hand);
}

/* 63, G8 */
TEST(ws_handshake, keys)
{
    static const char *const bad[] = {"",
                                      "dGhlIHNhbXBsZSBub25jZQ",
                                      "dGhlIHNhbXBsZSBub25jZQ=",
                                      "short==",
                                      "dGhlIHNhbXBsZSBub25jZQ===",
                                      "dGhlIHNhbXBsZSBub25j\xff\xff==",
                                      "dGhlIHNhbXBsZSBub25jZQQ=",
                                      "dGhlIHNhbX-sZSBub25jZQ=="};
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct hand *hand = hand_new(11);
        hand_add(hand, "sec-websocket-version", "13");
        hand_add(hand, "sec-websocket-key", bad[i]);
        CHECK_INT(hand_read(hand), ==, 400);
        hand_free(hand);
    }
    struct hand *hand = hand_valid(11);
    hand_add(hand, "sec-websocket-key", KEY);
    CHECK_INT(hand_read(hand), ==, 400);
    hand_free(hand);
    hand = hand_new(11);
    hand_add(hand, "sec-websocket-version", "13");
    CHECK_INT(hand_read(hand), ==, 400);
    hand_free(hand);
    hand = hand_valid(20); /* RFC 8441 5: no key */
    CHECK_INT(hand_read(hand), ==, 0);
    CHECK_STR(hand_answer(hand, NULL), "x-own: 1\n");
    hand_free(hand);
}

TEST(ws_handshake, subprotocols)
{
    struct hand *hand = hand_valid(11);
    hand_add(hand, "sec-websocket-protocol", " chat ,, superchat");
    hand_add(hand, "sec-websocket-protocol", "v1.json");
    CHECK_INT(hand_read(hand), ==, 0);
    CHECK_INT(hand->ask.offered_len, ==, 3);
    CHECK_STR(hand->ask.offered[0], "chat");
    CHECK_STR(hand->ask.offered[1], "superchat");
    CHECK_STR(hand->ask.offered[2], "v1.json");
    CHECK(strstr(hand_answer(hand, "superchat"), "sec-websocket-protocol: superchat\n") != NULL);
    struct ph_fields out = {0};
    CHECK_INT(ph_ws_ask_answer(&hand->ask, &out, NULL, 0, "other"), ==, PH_E_INVAL);
    ph_fields_fini(&out);
    hand_free(hand);
}

/* G8 */
TEST(ws_handshake, malformed_lists_are_400)
{
    static const struct {
        const char *name, *value;
    } cases[] = {
        {"sec-websocket-protocol", "caf\xc3\xa9"},
        {"sec-websocket-protocol", "a b"},
        {"sec-websocket-protocol", "a;b"},
        {"sec-websocket-protocol", "\"quoted\""},
        {"sec-websocket-extensions", "permessage-deflate; ;"},
        {"sec-websocket-extensions", "permessage-deflate x"},
        {"sec-websocket-extensions", "; a"},
        {"sec-websocket-extensions", "a; b="},
        {"sec-websocket-extensions", "a; b=\"c"},
        {"sec-websocket-extensions", "\x80"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct hand *hand = hand_valid(11);
        hand_add(hand, cases[i].name, cases[i].value);
        CHECK_INT(hand_read(hand), ==, 400);
        hand_free(hand);
    }
    struct hand *hand = hand_valid(11);
    char many[65 * 2 + 1];
    for (size_t i = 0; i < 65; i++)
        memcpy(many + 2 * i, "a,", 2);
    many[130] = '\0';
    hand_add(hand, "sec-websocket-protocol", many);
    CHECK_INT(hand_read(hand), ==, 400);
    hand_free(hand);
}

/* 61 */
TEST(ws_handshake, deflate_offers)
{
    static const char basis[] = "permessage-deflate; server_no_context_takeover; "
                                "client_no_context_takeover; server_max_window_bits=";
    static const struct {
        const char *offer, *answer; /* behind `basis`; NULL: declined */
    } cases[] = {
        {"permessage-deflate", "12"},
        {"permessage-deflate; client_max_window_bits", "12; client_max_window_bits=12"},
        {"permessage-deflate; client_max_window_bits=10", "12; client_max_window_bits=10"},
        {"permessage-deflate; client_max_window_bits=15", "12; client_max_window_bits=12"},
        {"permessage-deflate; server_max_window_bits=9", "9"},
        {"permessage-deflate; server_max_window_bits=\"10\"", "10"},
        {"permessage-deflate; server_max_window_bits=15", "12"},
        {"permessage-deflate ; server_no_context_takeover;client_no_context_takeover", "12"},
        {"permessage-deflate; server_max_window_bits=8", NULL},
        {"permessage-deflate; server_max_window_bits=8, permessage-deflate", "12"},
        {"permessage-deflate; server_max_window_bits", NULL},
        {"permessage-deflate; server_max_window_bits=16", NULL},
        {"permessage-deflate; server_max_window_bits=09", NULL},
        {"permessage-deflate; client_max_window_bits=7", NULL},
        {"permessage-deflate; server_no_context_takeover=1", NULL},
        {"permessage-deflate; client_no_context_takeover; client_no_context_takeover", NULL},
        {"permessage-deflate; unknown", NULL},
        {"x-webkit-deflate-frame", NULL},
        {"foo; bar=1, permessage-deflate; client_max_window_bits", "12; client_max_window_bits=12"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        for (int on = 0; on < 2; on++) {
            struct hand *hand = hand_valid(11);
            hand->config.deflate = on != 0;
            hand_add(hand, "sec-websocket-extensions", cases[i].offer);
            CHECK_INT(hand_read(hand), ==, 0);
            CHECK_INT(hand->ask.deflate, ==, on && cases[i].answer != NULL);
            const char *said = strstr(hand_answer(hand, NULL), "sec-websocket-extensions: ");
            if (hand->ask.deflate) {
                char want[256];
                snprintf(want, sizeof(want), "sec-websocket-extensions: %s%s\n", basis,
                         cases[i].answer);
                CHECK(said != NULL);
                CHECK_STR(said, want);
            } else {
                CHECK(said == NULL);
            }
            hand_free(hand);
        }
    }
}

/* G10 */
TEST(ws_handshake, origins)
{
    static const char *const list[] = {"https://good.example"};
    static const struct {
        const char *origin;
        size_t n;
        int status;
    } cases[] = {
        {"https://evil.example", 0, 0}, /* without a list every page may connect */
        {"https://good.example", 1, 0},
        {"https://evil.example", 1, 403},
        {"null", 1, 403},
        {NULL, 1, 0},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct hand *hand = hand_valid(11);
        hand->config.allowed_origins = list;
        hand->config.allowed_origins_len = cases[i].n;
        if (cases[i].origin != NULL)
            hand_add(hand, "origin", cases[i].origin);
        CHECK_INT(hand_read(hand), ==, cases[i].status);
        hand_free(hand);
    }
}

/* 53 */
TEST(ws_handshake, fields_that_the_handshake_sets)
{
    static const char *const names[] = {"sec-websocket-accept",
                                        "sec-websocket-protocol",
                                        "sec-websocket-extensions",
                                        "upgrade",
                                        "connection",
                                        "transfer-encoding",
                                        "Upper"};
    struct hand *hand = hand_valid(11);
    CHECK_INT(hand_read(hand), ==, 0);
    for (size_t i = 0; i < PH_COUNT_OF(names); i++) {
        struct ph_field field = {names[i], "x", strlen(names[i]), 1};
        struct ph_fields out = {0};
        CHECK_INT(ph_ws_ask_answer(&hand->ask, &out, &field, 1, NULL), ==, PH_E_INVAL);
        ph_fields_fini(&out);
    }
    hand_free(hand);
}
