/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MGS_INTERNAL_H
#define MGS_INTERNAL_H

#include "suricata-common.h"
#include "suricata.h"

#include "action-globals.h"
#include "app-layer-parser.h"
#include "app-layer-protos.h"
#include "conf.h"
#include "decode.h"
#include "decode-events.h"
#include "detect.h"
#include "detect-engine.h"
#include "flow.h"
#include "flow-private.h"
#include "flow-timeout.h"
#include "output.h"
#include "output-eve.h"
#include "output-packet.h"
#include "output-stats.h"
#include "packet.h"
#include "rust.h"
#include "runmode-lib.h"
#include "runmodes.h"
#include "stream-tcp-private.h"
#include "threadvars.h"
#include "tm-threads.h"
#include "tmqh-packetpool.h"
#include "util-debug.h"
#include "util-device.h"
#include "util-exception-policy.h"
#include "util-time.h"

#include <stdatomic.h>

#include "mgs.h"

/* `__wrap_NAME` stands in front of NAME, which is `__real_NAME` now (build.rs), and is declared as NAME is: if that
 * changes, what we have for it no longer compiles. */
#define MGS_IN_FRONT_OF(name) extern __typeof__(name) __wrap_##name, __real_##name

struct mgs_field {
    char key[MGS_FIELD_KEY];
    char value[MGS_FIELD_VALUE];
    uint16_t key_len;
    uint16_t value_len;
};

/* The counters of Suricata's that tell of a loss; see losses.c. */
#define MGS_LOSS_COUNTERS 7

/* Where the stream goes on behind framing that this packet begins with; see seams.c. */
struct mgs_seam {
    /* What is in front of the framing, and then behind it; made when first needed. */
    uint8_t *bytes;
    uint32_t before;
    uint32_t len;
    /* 0 if the packet begins with none. */
    uint32_t framing;
};

struct mgs_worker {
    ThreadVars *tv;
    /* Where they are among the thread's, and where they stood. */
    uint16_t loss_counters[MGS_LOSS_COUNTERS];
    int64_t losses_seen;
    int64_t memory_losses_seen;
    /* What mgs_worker_packet is at; NULL outside of it. */
    Packet *packet;
    struct mgs_outcome *outcome;
    uint64_t flow_id;
    int note;
    /* Made with the flow locked, run once it is not; see sweep() in worker.c. */
    Packet *sweep[2];
    bool sweep_lacking;
    struct mgs_seam seam;
    struct mgs_field fields[MGS_FIELDS];
};

extern _Thread_local struct mgs_worker *mgs_current;
extern LiveDevice *mgs_device;

/* Registers the hooks that workers rely on; before SuricataInit. */
int mgs_worker_hooks(void);
/* Lets all workers go that wait for the engine's main thread. */
void mgs_workers_let_go(void);
/* Creates the worker for `tv`. */
int mgs_worker_create(unsigned index, ThreadVars *tv);
int mgs_stats_hook(void);

/* The engine did not look at something of what this thread is feeding; `loss` is one of MGS_LOST_*. */
static inline void mgs_lost(uint8_t loss)
{
    struct mgs_worker *worker = mgs_current;

    if (worker != NULL && worker->outcome != NULL && worker->outcome->loss == MGS_LOST_NOTHING)
        worker->outcome->loss = loss;
}
/* Finds the counters of losses among those of the calling worker; once it is attached. */
void mgs_losses_find(struct mgs_worker *worker);
/* Looks whether one of them has moved. */
void mgs_losses_look(struct mgs_worker *worker);

/* Whether the parser of SMTP is within a mail. */
bool mgs_reads_mail(const Flow *f);

/* Runs `call` on this thread; returns MGS_EXITED if Suricata wanted to exit the process within. */
int mgs_guard(int (*call)(void));
/* Leaves the innermost mgs_guard of this thread, or the process if there is none. */
_Noreturn void mgs_give_up(int code);
/* From here on the calling thread yields again and again, until the other is called. */
void mgs_turns_begin(void);
void mgs_turns_end(void);
/* Set once the engine has failed for good. */
extern atomic_bool mgs_lost_engine;
/* Set while rules are loaded before the engine serves. */
extern int mgs_booting;

#endif
