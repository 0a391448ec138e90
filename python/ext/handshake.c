/*
 * handshake.c - what an application may answer to the request for a WebSocket or for a WebTransport
 * session: accept with a subprotocol, or an HTTP response of its own, which rejects.
 *
 *      ...http.response.start -> Rejection (kept) -> first ...http.response.body -> core
 *
 * The head is kept until there is a body, because together they leave at once, and a response
 * without a body is said as one. Which messages are in order is the business of the scope's file.
 */
#include "ext.h"

#include <string.h>

static bool is_offered(const Channel *channel, const char *subprotocol)
{
    const ph_request *request = ph_chan_request(channel->chan);
    for (size_t i = 0; i < request->offered_len; i++) {
        if (strcmp(request->offered[i], subprotocol) == 0)
            return true;
    }
    return false;
}

int handshake_subprotocol(const Channel *channel, const Message *message, const char **out)
{
    *out = NULL;
    if (message->text == NULL)
        return 0;
    *out = PyUnicode_AsUTF8(message->text);
    if (*out == NULL)
        return -1;
    if (!is_offered(channel, *out)) {
        PyErr_Format(PyExc_ValueError, "subprotocol %R was not offered", message->text);
        return -1;
    }
    return 0;
}

void rejection_keep(Channel *channel, Rejection *rejection, Message *message, int status)
{
    channel->status = status;
    rejection->head = message->fields; /* moved */
    rejection->kept = true;
    message->fields = (Fields){0};
}

int rejection_send(Channel *channel, Rejection *rejection, Message *message, bool fin)
{
    bool empty = message->buf == NULL, said = empty && !fin;
    int rc = PH_OK;
    if (rejection->kept) {
        rc = ph_chan_respond(channel->chan, channel->status, rejection->head.list,
                             rejection->head.count, fin && empty);
        rejection_drop(rejection);
        said = empty;
    }
    if (rc == PH_OK && !said) {
        rc = ph_chan_write(channel->chan, message->buf, fin);
        message->buf = NULL; /* taken */
    }
    if (rc == PH_OK)
        channel->bytes_out += message->len;
    return rc;
}

void rejection_cut(Channel *channel, Rejection *rejection)
{
    if (rejection->kept)
        ph_chan_respond(channel->chan, channel->status, rejection->head.list, rejection->head.count,
                        false);
    rejection_drop(rejection);
}

void rejection_drop(Rejection *rejection)
{
    fields_clear(&rejection->head);
    rejection->kept = false;
}
