/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Two things about HTTP/1 that Suricata leaves to be wished for. */
#include "internal.h"
#include "app-layer-detect-proto.h"
#include "app-layer-htp.h"
#include "app-layer-htp-body.h"

MGS_IN_FRONT_OF(HtpBodyPrune);
MGS_IN_FRONT_OF(RegisterHTPParsers);

static AppProto take_as_http(const Flow *f, uint8_t flags, const uint8_t *input, uint32_t len, uint8_t *rdir);

/* Suricata knows a stream for HTTP/1 by the methods it has heard of, and any other request is not parsed before its
 * response begins. Where the caller knows better, it says so. Such a parser is asked only about flows that are expected
 * to be HTTP/1, which none is by itself: see MGS_NOTE_HTTP1. */
void __wrap_RegisterHTPParsers(void)
{
    __real_RegisterHTPParsers();
    if (SCAppLayerProtoDetectConfProtoDetectionEnabled("tcp", "http"))
        SCAppLayerProtoDetectPPRegister(IPPROTO_TCP, NULL, ALPROTO_HTTP1, 1, 0, STREAM_TOSERVER, take_as_http, NULL);
}

static AppProto take_as_http(const Flow *f, uint8_t flags, const uint8_t *input, uint32_t len, uint8_t *rdir)
{
    return ALPROTO_HTTP1;
}

/* Keeps uploads of any length within bounds. Suricata prunes a body only once `body_parsed` is not 0, and for requests
 * only its multipart parser counts that: any other request body is kept whole, as far as request-body-limit lets it. We
 * need that limit off, so that all of an upload is inspected. */
void __wrap_HtpBodyPrune(HtpState *state, HtpBody *body, int direction)
{
    if (direction == STREAM_TOSERVER && body != NULL && body->body_parsed == 0) {
        const HtpTxUserData *tx =
                (const HtpTxUserData *)((const char *)body - offsetof(HtpTxUserData, request_body));
        /* Where parts are parsed, the number means something. Elsewhere any will do. */
        if (tx->request_body_type != HTP_BODY_REQUEST_MULTIPART)
            body->body_parsed = 1;
    }
    __real_HtpBodyPrune(state, body, direction);
}
