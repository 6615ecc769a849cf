/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Content comes decoded: who feeds us decodes it as clients do, strictly, and leaves the head as it was. So libhtp must
 * not decode again. For requests it has a setting that Suricata turns on. For responses it has none: it looks for
 * Content-Encoding in its table of fields as soon as it has handed on the raw head, and never again. So that is when
 * the field goes by another name, and before Suricata looks at the table it has its own one back. */
#include "internal.h"
#include "app-layer-htp.h"

typedef struct htp_header_t htp_header_t;
typedef struct htp_headers_t htp_headers_t;
typedef struct htp_tx_data_t htp_tx_data_t;
typedef int head_callback(const htp_connp_t *, htp_tx_data_t *);

ssize_t htp_headers_size(const htp_headers_t *);
const htp_header_t *htp_headers_get_index(const htp_headers_t *, size_t);
const uint8_t *htp_header_name_ptr(const htp_header_t *);
ssize_t htp_header_name_len(const htp_header_t *);
const htp_tx_t *htp_tx_data_tx(const htp_tx_data_t *);
const htp_headers_t *htp_tx_response_headers(const htp_tx_t *);

void __real_htp_config_set_request_decompression(htp_cfg_t *, int);
void __wrap_htp_config_set_request_decompression(htp_cfg_t *, int);
void __real_htp_config_register_response_header_data(htp_cfg_t *, head_callback *);
void __wrap_htp_config_register_response_header_data(htp_cfg_t *, head_callback *);
int __real_htp_connp_response_data(htp_connp_t *, const struct timeval *, const void *, size_t);
int __wrap_htp_connp_response_data(htp_connp_t *, const struct timeval *, const void *, size_t);
void __real_htp_connp_close(htp_connp_t *, const struct timeval *);
void __wrap_htp_connp_close(htp_connp_t *, const struct timeval *);

/* Whose fields go by another name now. */
static _Thread_local const htp_tx_t *veiled;

static head_callback veil;
static void unveil(void);
static void rename_fields(const htp_tx_t *tx, uint8_t first);

void __wrap_htp_config_set_request_decompression(htp_cfg_t *config, int enabled)
{
    __real_htp_config_set_request_decompression(config, 0);
}

void __wrap_htp_config_register_response_header_data(htp_cfg_t *config, head_callback *keep)
{
    __real_htp_config_register_response_header_data(config, keep);
    __real_htp_config_register_response_header_data(config, veil);
}

int __wrap_htp_connp_response_data(htp_connp_t *connp, const struct timeval *time, const void *data, size_t len)
{
    int result = __real_htp_connp_response_data(connp, time, data, len);

    unveil();
    return result;
}

/* What came of a head may be taken for all of it. */
void __wrap_htp_connp_close(htp_connp_t *connp, const struct timeval *time)
{
    __real_htp_connp_close(connp, time);
    unveil();
}

static int veil(const htp_connp_t *connp, htp_tx_data_t *data)
{
    unveil();
    veiled = htp_tx_data_tx(data);
    rename_fields(veiled, 'c');
    return 1; /* HTP_STATUS_OK */
}

static void unveil(void)
{
    if (veiled != NULL)
        rename_fields(veiled, 'c' | 0x80);
    veiled = NULL;
}

/* Toggles the high bit of the first byte, which no name of a field may have, where that byte is `first` but for case. */
static void rename_fields(const htp_tx_t *tx, uint8_t first)
{
    static const char rest[] = "ontent-encoding";
    const htp_headers_t *fields = htp_tx_response_headers(tx);

    for (ssize_t i = 0; i < htp_headers_size(fields); i++) {
        const htp_header_t *field = htp_headers_get_index(fields, (size_t)i);
        uint8_t *name = (uint8_t *)htp_header_name_ptr(field);

        if (htp_header_name_len(field) == sizeof(rest) && (name[0] | 0x20) == first &&
                strncasecmp((const char *)name + 1, rest, sizeof(rest) - 1) == 0)
            name[0] ^= 0x80;
    }
}
