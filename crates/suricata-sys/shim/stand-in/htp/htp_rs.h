/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Stands in for a header that app-layer-htp.h asks for and `make install-headers` leaves out. Only pointers to these
 * types occur in what we use of it, and of its functions we need five. */
#ifndef MGS_STAND_IN_HTP_RS_H
#define MGS_STAND_IN_HTP_RS_H

#include <stdint.h>

typedef struct bstr bstr;
typedef struct htp_cfg_t htp_cfg_t;
typedef struct htp_conn_t htp_conn_t;
typedef struct htp_connp_t htp_connp_t;
typedef struct htp_tx_data_t htp_tx_data_t;
typedef struct htp_tx_t htp_tx_t;

intptr_t htp_tx_data_len(const htp_tx_data_t *data);
const htp_tx_t *htp_tx_data_tx(const htp_tx_data_t *data);
int bstr_cmp_c(const bstr *text, const char *other);
const bstr *htp_tx_request_method(const htp_tx_t *tx);
void *htp_tx_get_user_data(const htp_tx_t *tx);

#endif
