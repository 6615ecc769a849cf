/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Keeps uploads of any length within bounds. Suricata prunes a body only once `body_parsed` is not 0, and for requests
 * only its multipart parser counts that: any other request body is kept whole, as far as request-body-limit lets it. We
 * need that limit off, so that all of an upload is inspected. */
#include "internal.h"
#include "app-layer-htp.h"
#include "app-layer-htp-body.h"

void __real_HtpBodyPrune(HtpState *, HtpBody *, int);
void __wrap_HtpBodyPrune(HtpState *, HtpBody *, int);

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
