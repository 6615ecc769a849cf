/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Parts of a resource (206) are inspected each by itself, never joined. Suricata joins what comes for the same host and path,
 * whoever asked: the joined file keeps every byte until the last one has come (outside of http.byterange.memcap), and what one
 * client was sent, from a server of its own perhaps, is held against the next. docs/libsuricata-findings.md, B5. */
#include "internal.h"
#include "app-layer-htp.h"
#include "app-layer-htp-range.h"

MGS_IN_FRONT_OF(HttpRangeContainerOpenFile);

/* What HttpRangeOpenFileAux() makes for a part that lies wholly in what has come already: a block that skips its data, and
 * belongs to no container. HttpRangeFreeBlock() frees it. */
HttpRangeContainerBlock *__wrap_HttpRangeContainerOpenFile(const unsigned char *key, uint32_t key_len, const Flow *f,
        const HTTPContentRange *range, const StreamingBufferConfig *config, const unsigned char *name,
        uint16_t name_len, uint16_t flags, const uint8_t *data, uint32_t data_len)
{
    HttpRangeContainerBlock *block = SCCalloc(1, sizeof(*block));

    if (unlikely(block == NULL))
        mgs_lost(MGS_LOST_MEMORY);
    else
        block->toskip = UINT64_MAX;
    return block;
}
