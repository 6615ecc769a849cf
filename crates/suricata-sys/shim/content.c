/* SPDX-License-Identifier: GPL-2.0-only
 *
 * How much of a message's content the rules get to see. libhtp hands content on in pieces; Suricata keeps each for its
 * rules, or does not (limits, memory caps), and goes on either way. */
#include "internal.h"
#include "app-layer-htp.h"
#include "app-layer-htp-body.h"

typedef int body_callback(const htp_connp_t *, htp_tx_data_t *);

void __real_htp_config_register_request_body_data(htp_cfg_t *, body_callback *);
void __wrap_htp_config_register_request_body_data(htp_cfg_t *, body_callback *);
void __real_htp_config_register_response_body_data(htp_cfg_t *, body_callback *);
void __wrap_htp_config_register_response_body_data(htp_cfg_t *, body_callback *);

/* The same for each of libhtp's configurations. */
static body_callback *keep_request;
static body_callback *keep_response;

static body_callback on_request;
static body_callback on_response;
static void take_for_upload(HtpTxUserData *tx, const htp_tx_t *of);
static HtpTxUserData *user_data(htp_tx_data_t *data);
static void count(unsigned direction, uint64_t handed_on, uint64_t kept);

void __wrap_htp_config_register_request_body_data(htp_cfg_t *config, body_callback *keep)
{
    keep_request = keep;
    __real_htp_config_register_request_body_data(config, on_request);
}

void __wrap_htp_config_register_response_body_data(htp_cfg_t *config, body_callback *keep)
{
    keep_response = keep;
    __real_htp_config_register_response_body_data(config, on_response);
}

static int on_request(const htp_connp_t *connp, htp_tx_data_t *data)
{
    HtpTxUserData *tx = user_data(data);
    uint64_t before = tx != NULL ? tx->request_body.content_len_so_far : 0;

    if (tx != NULL && !tx->response_body_init)
        take_for_upload(tx, htp_tx_data_tx(data));
    int result = keep_request(connp, data);

    count(0, (uint64_t)htp_tx_data_len(data), tx != NULL ? tx->request_body.content_len_so_far - before : 0);
    return result;
}

static int on_response(const htp_connp_t *connp, htp_tx_data_t *data)
{
    HtpTxUserData *tx = user_data(data);
    uint64_t before = tx != NULL ? tx->response_body.content_len_so_far : 0;
    int result = keep_response(connp, data);

    count(1, (uint64_t)htp_tx_data_len(data), tx != NULL ? tx->response_body.content_len_so_far - before : 0);
    return result;
}

/* Suricata makes files, for `file.data` and others, of what POST and PUT bring; a PATCH would be a way around. */
static void take_for_upload(HtpTxUserData *tx, const htp_tx_t *of)
{
    const bstr *method = htp_tx_request_method(of);

    if (method == NULL || bstr_cmp_c(method, "POST") == 0)
        return;
    tx->response_body_init = 1;
    tx->request_body_type = HTP_BODY_REQUEST_PUT;
}

static HtpTxUserData *user_data(htp_tx_data_t *data)
{
    const htp_tx_t *tx = htp_tx_data_tx(data);
    return tx != NULL ? htp_tx_get_user_data(tx) : NULL;
}

static void count(unsigned direction, uint64_t handed_on, uint64_t kept)
{
    struct mgs_worker *worker = mgs_current;

    if (worker == NULL || worker->outcome == NULL)
        return;
    worker->outcome->content[direction] += kept;
    if (kept != handed_on)
        mgs_lost(MGS_LOST_CONTENT);
}
