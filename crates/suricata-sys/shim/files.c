/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Files outside HTTP/1, for `file.data`. Suricata looks at none before 32 KiB of it are there, at FTP's not even at their
 * end, and beyond that at each part by itself, so that what lies across two parts is not found. Here the first bytes
 * are looked at, too, and each part together with the end of the one before. */
#include "internal.h"
#include "util-file.h"
#include "util-streaming-buffer.h"

/* Bytes that are looked at once more. */
#define OVERLAP 4096

MGS_IN_FRONT_OF(FilesPrune);

/* Called for all that is left of a transaction's files when a packet was dealt with. */
void __wrap_FilesPrune(FileContainer *files, const StreamingBufferConfig *config, const bool truncate)
{
    const struct mgs_worker *worker = mgs_current;
    bool looks_again = worker != NULL && worker->outcome != NULL && worker->outcome->app_proto != ALPROTO_HTTP1;

    for (File *file = files->head; looks_again && file != NULL; file = file->next) {
        if (file->state != FILE_STATE_OPENED || file->sb == NULL)
            continue;
        uint64_t size = FileDataSize(file);
        uint64_t again = size > OVERLAP ? size - OVERLAP : 0;
        again = MAX(again, StreamingBufferGetOffset(file->sb));
        file->content_inspected = MIN(file->content_inspected, again);
    }
    __real_FilesPrune(files, config, truncate);
}

void mgs_look_at_first_bytes(DetectEngineCtx *de_ctx)
{
    /* Without rules for `file.data` there is none. */
    for (AppProto p = 0; de_ctx->filedata_config != NULL && p < g_alproto_max; p++) {
        if (p == ALPROTO_HTTP1)
            continue;
        de_ctx->filedata_config[p].content_limit = 0;
        de_ctx->filedata_config[p].content_inspect_min_size = 1;
    }
}
