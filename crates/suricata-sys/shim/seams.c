/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Rules for the bytes of a stream (`content` without a buffer) see what is on the wire: where a body goes on in another
 * chunk, there is a line in the midst of it. Nobody who is sent the body sees these lines, and here they are our own, so
 * such rules see the stream without them. */
#include "internal.h"
#include "stream-tcp.h"
#include "stream-tcp-reassemble.h"

MGS_IN_FRONT_OF(StreamReassembleRaw);

/* Whom the stream is for. */
struct viewer {
    struct mgs_worker *worker;
    const Packet *packet;
    StreamReassembleRawFunc look;
    void *data;
};

static int look_across(void *data, const uint8_t *seen, const uint32_t len, const uint64_t offset);
static void join(struct mgs_seam *seam, const Packet *p);

int mgs_worker_seam(mgs_worker *worker, const uint8_t *before, uint32_t len, uint32_t framing)
{
    struct mgs_seam *seam = &worker->seam;

    if (len > MGS_SEAM_BEFORE || framing == 0)
        return MGS_FAILED;
    if (seam->bytes == NULL && (seam->bytes = SCMalloc(MGS_SEAM_BEFORE + UINT16_MAX)) == NULL)
        return MGS_NO_PACKET;
    memcpy(seam->bytes, before, len);
    seam->before = seam->len = len;
    seam->framing = framing;
    return 0;
}

int __wrap_StreamReassembleRaw(TcpSession *session, const Packet *p, StreamReassembleRawFunc look, void *data,
        uint64_t *progress, bool respect_depth)
{
    struct mgs_worker *worker = mgs_current;

    /* Elsewhere than inline, detection sees more than a packet at a time, and not when it comes. */
    if (worker == NULL || worker->packet != p || worker->seam.framing == 0 || !StreamTcpInlineMode())
        return __real_StreamReassembleRaw(session, p, look, data, progress, respect_depth);
    struct viewer viewer = { worker, p, look, data };
    return __real_StreamReassembleRaw(session, p, look_across, &viewer, progress, respect_depth);
}

/* As much of the stream as there is in `seen`, and nothing else, but for the framing. */
static int look_across(void *data, const uint8_t *seen, const uint32_t len, const uint64_t offset)
{
    const struct viewer *viewer = data;
    struct mgs_seam *seam = &viewer->worker->seam;

    if (seam->len == seam->before)
        join(seam, viewer->packet);
    uint32_t most = MIN(len, seam->len);
    return viewer->look(viewer->data, seam->bytes + seam->len - most, most, offset);
}

/* Once a packet, and only if there are rules that look. */
static void join(struct mgs_seam *seam, const Packet *p)
{
    if (p->payload_len <= seam->framing)
        return;
    uint32_t rest = p->payload_len - seam->framing;
    memcpy(seam->bytes + seam->before, p->payload + seam->framing, rest);
    seam->len += rest;
}
