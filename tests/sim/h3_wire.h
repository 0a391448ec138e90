/*
 * h3_wire.h - what the tests with raw bytes share: heads, openings, and checks of a refusal.
 */
#ifndef PH_SIM_H3_WIRE_H
#define PH_SIM_H3_WIRE_H

#include "h3_app.h"

#define H3_WIRE_BYTES(s) (s), (sizeof(s) - 1)
#define H3_WIRE_CONTROL "\x00\x04\x00" /* control stream with empty SETTINGS */
#define H3_WIRE_GET                                                                                \
    H3_FIELD(":method", "GET"), H3_FIELD(":scheme", "https"), H3_FIELD(":authority", "localhost"), \
        H3_FIELD(":path", "/")
#define H3_WIRE_CONNECT(protocol)                                                                  \
    H3_FIELD(":method", "CONNECT"), H3_FIELD(":scheme", "https"),                                  \
        H3_FIELD(":authority", "localhost"), H3_FIELD(":path", "/wt"),                             \
        H3_FIELD(":protocol", protocol)

/* A server, with our extension or without, and a raw client. */
void h3_wire_up(struct h3_world *world, bool ext);
/* The server closes the connection with `code` after these bytes on a stream of the client. */
void h3_wire_refused(bool bidi, const void *data, size_t n, bool fin, uint64_t code);
/* The same for frames on a control stream that began well. */
void h3_wire_refused_control(const void *frames, size_t n, uint64_t code);
/* The same for frames on a request stream after a valid head of POST /wait. */
void h3_wire_refused_after_head(const void *frames, size_t n, uint64_t code);
/* The stream of a request with these fields is reset, the application is not asked, and the
 * connection serves the next request. */
void h3_wire_malformed(const struct ph_field *fields, size_t n);
/* Status of the answer to this head on a fresh connection with SETTINGS. */
int h3_wire_status_of(const struct ph_field *fields, size_t n, bool ext);

#endif
