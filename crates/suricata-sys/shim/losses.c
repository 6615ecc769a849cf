/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Where Suricata goes on without looking, and says so at most in a counter: for the caller each is a failure of what it
 * feeds. docs/limits.md lists them. */
#include "internal.h"
#include "app-layer-htp.h"
#include "app-layer-htp-mem.h"
#include "util-file.h"

MGS_IN_FRONT_OF(HTPMalloc);
MGS_IN_FRONT_OF(HTPCalloc);
MGS_IN_FRONT_OF(HTPRealloc);

MGS_IN_FRONT_OF(FileOpenFileWithId);
MGS_IN_FRONT_OF(FileAppendData);
MGS_IN_FRONT_OF(FileAppendDataById);
MGS_IN_FRONT_OF(FileAppendGAPById);

/* Counters of a worker, each of something that was not kept. */
static const struct {
    const char *name;
    uint8_t loss;
} counters[MGS_LOSS_COUNTERS] = {
    { "flow.memcap", MGS_LOST_MEMORY },
    { "tcp.segment_memcap_drop", MGS_LOST_MEMORY },
    { "tcp.ssn_memcap_drop", MGS_LOST_MEMORY },
    { "tcp.insert_data_normal_fail", MGS_LOST_STREAM },
    { "tcp.insert_data_overlap_fail", MGS_LOST_STREAM },
    { "tcp.reassembly_gap", MGS_LOST_STREAM },
    { "tcp.stream_depth_reached", MGS_LOST_STREAM },
};

static int64_t counted(const struct mgs_worker *worker, uint8_t loss);

void mgs_losses_find(struct mgs_worker *worker)
{
    const StatsPublicThreadContext *public = &worker->tv->perf_public_ctx;

    for (size_t i = 0; i < MGS_LOSS_COUNTERS; i++) {
        const StatsCounter *counter = public->head;
        while (counter != NULL && (counter->name == NULL || strcmp(counter->name, counters[i].name) != 0))
            counter = counter->next;
        /* 0 is nobody's: such a counter stays at 0. */
        worker->loss_counters[i] = counter != NULL ? counter->id : 0;
    }
    worker->losses_seen = counted(worker, MGS_LOST_NOTHING);
    worker->memory_losses_seen = counted(worker, MGS_LOST_MEMORY);
}

void mgs_losses_look(struct mgs_worker *worker)
{
    int64_t now = counted(worker, MGS_LOST_NOTHING), memory;

    if (likely(now == worker->losses_seen))
        return;
    memory = counted(worker, MGS_LOST_MEMORY);
    mgs_lost(memory != worker->memory_losses_seen ? MGS_LOST_MEMORY : MGS_LOST_STREAM);
    worker->losses_seen = now;
    worker->memory_losses_seen = memory;
}

/* The counters of one kind of loss, or of all: they only grow, so that their sum moves if one does. */
static int64_t counted(const struct mgs_worker *worker, uint8_t loss)
{
    const StatsLocalCounter *local = worker->tv->perf_private_ctx.head;
    int64_t sum = 0;

    for (size_t i = 0; i < MGS_LOSS_COUNTERS; i++) {
        if (loss == MGS_LOST_NOTHING || counters[i].loss == loss)
            sum += local[worker->loss_counters[i]].value;
    }
    return sum;
}

/* http.memcap. What HTTP/1 keeps comes from here, also by way of streaming buffers; what is refused is left out, mostly
 * without a word. */
void *__wrap_HTPMalloc(size_t size)
{
    void *memory = __real_HTPMalloc(size);

    if (unlikely(memory == NULL))
        mgs_lost(MGS_LOST_MEMORY);
    return memory;
}

void *__wrap_HTPCalloc(size_t n, size_t size)
{
    void *memory = __real_HTPCalloc(n, size);

    if (unlikely(memory == NULL))
        mgs_lost(MGS_LOST_MEMORY);
    return memory;
}

void *__wrap_HTPRealloc(void *old, size_t old_size, size_t size)
{
    void *memory = __real_HTPRealloc(old, old_size, size);

    if (unlikely(memory == NULL && size > 0))
        mgs_lost(MGS_LOST_MEMORY);
    return memory;
}

/* Files of all protocols. One to which a piece could not be added is given up, and its rules with it. */
int __wrap_FileOpenFileWithId(FileContainer *files, const StreamingBufferConfig *config, uint32_t id,
        const uint8_t *name, uint16_t name_len, const uint8_t *data, uint32_t data_len, uint16_t flags)
{
    int result = __real_FileOpenFileWithId(files, config, id, name, name_len, data, data_len, flags);

    if (unlikely(result != 0))
        mgs_lost(MGS_LOST_CONTENT);
    return result;
}

int __wrap_FileAppendData(FileContainer *files, const StreamingBufferConfig *config, const uint8_t *data,
        uint32_t data_len)
{
    int result = __real_FileAppendData(files, config, data, data_len);

    /* Nothing can't be added, as the parser of MIME does of an empty line: there is nothing to lose. */
    if (unlikely(result != 0) && data_len > 0)
        mgs_lost(MGS_LOST_CONTENT);
    return result;
}

int __wrap_FileAppendDataById(FileContainer *files, const StreamingBufferConfig *config, uint32_t id,
        const uint8_t *data, uint32_t data_len)
{
    int result = __real_FileAppendDataById(files, config, id, data, data_len);

    if (unlikely(result != 0))
        mgs_lost(MGS_LOST_CONTENT);
    return result;
}

int __wrap_FileAppendGAPById(FileContainer *files, const StreamingBufferConfig *config, uint32_t id,
        const uint8_t *data, uint32_t data_len)
{
    mgs_lost(MGS_LOST_CONTENT);
    return __real_FileAppendGAPById(files, config, id, data, data_len);
}
