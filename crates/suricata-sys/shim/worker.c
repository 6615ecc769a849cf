/* SPDX-License-Identifier: GPL-2.0-only
 *
 * One packet through the engine, and what the engine made of it. */
#include "internal.h"

/* The Rust side (outcome.rs, and DropReason in crates/suricata) spells these out by hand. */
_Static_assert(PKT_DROP_REASON_FLOW_DROP == 5, "DropReason::FLOW differs");
_Static_assert(PKT_DROP_REASON_RULES == 8, "DropReason::RULES differs");
_Static_assert(PKT_DROP_REASON_RULES_THRESHOLD == 9, "DropReason::THRESHOLD differs");
_Static_assert(sizeof(struct mgs_alert) == 376, "struct mgs_alert differs from outcome.rs");
_Static_assert(sizeof(struct mgs_outcome) == 6064, "struct mgs_outcome differs from outcome.rs");

_Thread_local struct mgs_worker *mgs_current;

static struct mgs_worker *workers;
static unsigned workers_made;

static int sweep(struct mgs_worker *worker);
static void prepare_sweep(struct mgs_worker *worker, Flow *f);
static void release(Packet *p);
static TmEcode observe_init(ThreadVars *tv, const void *init, void **data);
static bool observe_wanted(ThreadVars *tv, void *data, const Packet *p);
static int observe(ThreadVars *tv, void *data, const Packet *p);
static void note_flow(struct mgs_outcome *outcome, const Packet *p, const Flow *f);
static void note_events(struct mgs_outcome *outcome, const Packet *p);
static void note_alerts(struct mgs_outcome *outcome, const Packet *p);
static void note_alert(struct mgs_outcome *outcome, const Signature *s, uint8_t action, bool deciding);
static uint16_t copy_text(char *to, size_t size, const char *from);

int mgs_worker_hooks(void)
{
    /* Registered before the YAML's own outputs, so that it is the first in their list. */
    return SCOutputRegisterPacketLogger(LOGGER_USER, "meergate", observe, observe_wanted, NULL, observe_init, NULL) == 0
            ? 0
            : MGS_FAILED;
}

int mgs_worker_create(unsigned index, ThreadVars *tv)
{
    struct mgs_worker *grown = SCRealloc(workers, (index + 1) * sizeof(*workers));
    if (grown == NULL)
        return MGS_FAILED;
    workers = grown;
    memset(&workers[index], 0, sizeof(workers[index]));
    workers[index].tv = tv;
    workers_made = index + 1;
    return 0;
}

mgs_worker *mgs_worker_at(unsigned index)
{
    return index < workers_made ? &workers[index] : NULL;
}

int mgs_worker_attach(mgs_worker *worker)
{
    /* Suricata's packet pools are the thread's: it cannot be two workers. */
    if (mgs_current != NULL)
        return MGS_FAILED;
    mgs_current = worker;
    if (SCRunModeLibSpawnWorker(worker->tv) != 0 || atomic_load(&mgs_lost_engine)) {
        mgs_current = NULL;
        return MGS_FAILED;
    }
    mgs_losses_find(worker);
    return 0;
}

int mgs_worker_packet(mgs_worker *worker, uint8_t *data, uint32_t len, uint64_t lane, uint64_t flow_id,
        int note, struct mgs_outcome *outcome)
{
    ThreadVars *tv = worker->tv;
    struct timespec now;
    struct timeval tv_now;

    outcome->flags = 0;
    outcome->drop_reason = 0;
    outcome->event_count = 0;
    outcome->loss = MGS_LOST_NOTHING;
    outcome->flow_id = 0;
    outcome->content[0] = outcome->content[1] = 0;

    Packet *p = PacketGetFromQueueOrAlloc();
    if (unlikely(p == NULL)) {
        worker->seam.framing = 0;
        return MGS_NO_PACKET;
    }

    clock_gettime(CLOCK_REALTIME, &now);
    tv_now.tv_sec = now.tv_sec;
    tv_now.tv_usec = now.tv_nsec / 1000;

    SCPacketSetSource(p, PKT_SRC_WIRE);
    /* Not SCTIME_FROM_USECS: it leaves the seconds at 0, and flows would time out at once. */
    SCPacketSetTime(p, SCTIME_FROM_TIMEVAL(&tv_now));
    SCPacketSetDatalink(p, DLT_RAW);
    SCPacketSetLiveDevice(p, mgs_device);
    SCPacketSetReleasePacket(p, release);
    p->flags |= PKT_IGNORE_CHECKSUM;
    /* The flow table hashes these even where no VLAN header is seen: 48 bits that tell flows of one tuple apart.
     * All three, always: recycling a packet clears only two. */
    p->vlan_id[0] = (uint16_t)lane;
    p->vlan_id[1] = (uint16_t)(lane >> 16);
    p->vlan_id[2] = (uint16_t)(lane >> 32);

    worker->packet = p;
    worker->outcome = outcome;
    worker->flow_id = flow_id;
    worker->note = note;

    int result = MGS_FAILED;
    if (PacketSetData(p, data, len) == 0) {
        /* On failure the engine has already returned the packet. */
        if (TmThreadsSlotProcessPkt(tv, tv->tm_slots, p) == TM_ECODE_OK)
            result = 0;
    } else {
        TmqhOutputPacketpool(tv, p);
    }
    if (note == MGS_NOTE_END && sweep(worker) != 0)
        result = MGS_FAILED;
    if (worker->sweep_lacking) {
        worker->sweep_lacking = false;
        result = MGS_NO_PACKET;
    }
    mgs_losses_look(worker);
    worker->packet = NULL;
    worker->outcome = NULL;
    worker->seam.framing = 0;
    StatsSyncCountersIfSignalled(tv);
    return result;
}

/* At the end of a stream the engine may still hold data back: the parser waits for more of a body without length,
 * detection for more of what is short. On a wire that is settled when the flow times out, with one packet made up for
 * each direction (FlowFinish). Here it is settled at once, so that the verdict can still be heard. */
static int sweep(struct mgs_worker *worker)
{
    ThreadVars *tv = worker->tv;
    int result = 0;

    for (int i = 0; i < 2; i++) {
        Packet *p = worker->sweep[i];
        worker->sweep[i] = NULL;
        if (p == NULL)
            continue;
        worker->packet = p;
        worker->note = MGS_NOTE_NONE;
        worker->outcome->flags &= ~(MGS_RELEASED | MGS_INSPECTED);
        if (TmThreadsSlotProcessPkt(tv, tv->tm_flowworker, p) != TM_ECODE_OK)
            result = MGS_FAILED;
    }
    return result;
}

void mgs_worker_idle(mgs_worker *worker)
{
    ThreadVars *tv = worker->tv;

    /* A reload waits until each worker has processed something under the new rules. The packets that it injects itself
     * go to threads with an input queue only, which workers of ours do not have. */
    if (!DetectEngineReloadIsIdle() || (tv->flow_queue != NULL && SC_ATOMIC_GET(tv->flow_queue->non_empty)))
        TmThreadsCaptureInjectPacket(tv, NULL);
    StatsSyncCountersIfSignalled(tv);
}

int mgs_worker_field(mgs_worker *worker, unsigned slot, const char *key, size_t key_len, const char *value,
        size_t value_len)
{
    struct mgs_field *field;

    if (slot >= MGS_FIELDS || key_len >= MGS_FIELD_KEY || value_len >= MGS_FIELD_VALUE)
        return MGS_FAILED;
    field = &worker->fields[slot];
    memcpy(field->key, key, key_len);
    field->key[key_len] = '\0';
    field->key_len = (uint16_t)key_len;
    memcpy(field->value, value, value_len);
    field->value[value_len] = '\0';
    field->value_len = (uint16_t)value_len;
    return 0;
}

void mgs_workers_let_go(void)
{
    for (unsigned i = 0; i < workers_made; i++)
        TmThreadsSetFlag(workers[i].tv, THV_KILL | THV_DEINIT);
}

void mgs_worker_finish(mgs_worker *worker)
{
    /* What it has stays where it is, as the rest of the engine does. */
    if (atomic_load(&mgs_lost_engine)) {
        mgs_current = NULL;
        return;
    }
    SCTmThreadsSlotPacketLoopFinish(worker->tv);
    mgs_current = NULL;
}

/* Called once for each packet of ours, inside TmThreadsSlotProcessPkt. */
static void release(Packet *p)
{
    struct mgs_worker *worker = mgs_current;

    if (worker != NULL && worker->packet == p) {
        worker->outcome->flags |= MGS_RELEASED;
        if (PacketCheckAction(p, ACTION_DROP)) {
            worker->outcome->flags |= MGS_DROPPED;
            if (p->drop_reason != PKT_DROP_REASON_NOT_SET)
                worker->outcome->drop_reason = p->drop_reason;
        }
        worker->packet = NULL;
    }
    PacketFreeOrRelease(p);
}

static TmEcode observe_init(ThreadVars *tv, const void *init, void **data)
{
    static int dummy;
    /* The list of loggers goes out of step for a thread whose init fails, so this one cannot. */
    *data = &dummy;
    return TM_ECODE_OK;
}

static bool observe_wanted(ThreadVars *tv, void *data, const Packet *p)
{
    return mgs_current != NULL && mgs_current->outcome != NULL;
}

/* A packet logger: after detection, with the flow still there and locked. Besides the packet being fed it sees those
 * that Suricata makes up: to flush our flow when its protocol changes, and to end other flows that timed out. */
static int observe(ThreadVars *tv, void *data, const Packet *p)
{
    struct mgs_worker *worker = mgs_current;
    struct mgs_outcome *outcome = worker->outcome;
    Flow *f = p->flow;

    if (p != worker->packet) {
        if (f == NULL || worker->flow_id == 0 || FlowGetId(f) != worker->flow_id)
            return TM_ECODE_OK;
        if (PacketCheckAction(p, ACTION_DROP))
            outcome->flags |= MGS_DROPPED;
        note_alerts(outcome, p);
        return TM_ECODE_OK;
    }
    outcome->flags |= MGS_INSPECTED;
    if (p->flags & PKT_STREAM_ADD)
        outcome->flags |= MGS_ADDED;
    if (f != NULL) {
        note_flow(outcome, p, f);
        /* See http.c. */
        if (worker->note == MGS_NOTE_HTTP1 && f->alproto == ALPROTO_UNKNOWN)
            f->alproto_expect = ALPROTO_HTTP1;
        /* Each parser's own probe is asked then, also on other ports than those that it is registered for. */
        if (worker->note >= MGS_NOTE_EXPECT && f->alproto == ALPROTO_UNKNOWN)
            f->alproto_expect = (AppProto)(worker->note - MGS_NOTE_EXPECT);
        /* TCP packets of a flow that is dropped, or that lost its session, no longer end it: it would stay until its
         * timeout. Closed, it goes as others do. */
        if (worker->note == MGS_NOTE_LAST) {
            f->flags |= FLOW_TIMEOUT_REASSEMBLY_DONE;
            FlowUpdateState(f, FLOW_STATE_CLOSED);
        }
        if (worker->note == MGS_NOTE_END)
            prepare_sweep(worker, f);
    }
    note_events(outcome, p);
    note_alerts(outcome, p);
    return TM_ECODE_OK;
}

static void prepare_sweep(struct mgs_worker *worker, Flow *f)
{
    const TcpSession *session = f->protoctx;

    if (session == NULL || (f->flags & FLOW_ACTION_DROP) || FlowIsBypassed(f))
        return;
    /* The packets keep a pointer to the flow without counting it. It stays: they run at once, a flow that TCP holds for
     * open is not evicted before its timeout of a day, and at flow.memcap none is taken from its owner within seconds of
     * a packet. If it ever was, the flow's id tells. */
    for (int i = 0; i < 2; i++) {
        Packet *p = FlowPseudoPacketGet(i, f, session);
        if (p == NULL) {
            worker->sweep_lacking = true;
            continue;
        }
        PKT_SET_SRC(p, PKT_SRC_FFR);
        SCPacketSetReleasePacket(p, release);
        worker->sweep[i] = p;
    }
    if (worker->sweep[1] != NULL)
        worker->sweep[1]->flowflags |= FLOW_PKT_LAST_PSEUDO;
}

static void note_flow(struct mgs_outcome *outcome, const Packet *p, const Flow *f)
{
    const TcpSession *session = f->protoctx;

    outcome->flags |= MGS_HAS_FLOW;
    outcome->flow_id = FlowGetId(f);
    outcome->app_proto = f->alproto;
    if (f->flags & FLOW_ACTION_PASS)
        outcome->flags |= MGS_PASSED;
    if (f->flags & FLOW_NOPAYLOAD_INSPECTION)
        outcome->flags |= MGS_NO_PAYLOAD;
    if (FlowIsBypassed(f))
        outcome->flags |= MGS_BYPASSED;
    if (f->alstate != NULL)
        outcome->flags |= MGS_PARSED;
    if (mgs_reads_mail(f))
        outcome->flags |= MGS_READS_MAIL;
    if (session == NULL)
        return;
    if (session->flags & STREAMTCP_FLAG_APP_LAYER_DISABLED)
        outcome->flags |= MGS_APP_DISABLED;
    /* At the depth there would be something to see, if one could look so far. */
    const TcpStream *stream = PKT_IS_TOSERVER(p) ? &session->client : &session->server;
    if ((stream->flags & STREAMTCP_STREAM_FLAG_NOREASSEMBLY) && !(stream->flags & STREAMTCP_STREAM_FLAG_DEPTH_REACHED))
        outcome->flags |= MGS_UNNEEDED;
    if ((stream->flags & STREAMTCP_STREAM_FLAG_DISABLE_RAW) && f->alstate == NULL)
        outcome->flags |= MGS_UNREAD;
}

static void note_events(struct mgs_outcome *outcome, const Packet *p)
{
    if (p->events.cnt > 0 && outcome->event_count == 0)
        outcome->event = p->events.events[0];
    outcome->event_count = (uint8_t)(outcome->event_count + p->events.cnt);
}

static void note_alerts(struct mgs_outcome *outcome, const Packet *p)
{
    const Signature *condemned = p->alerts.drop.action != 0 ? p->alerts.drop.s : NULL;
    bool told = condemned == NULL;

    /* Beyond packet-alert-max they do what they are to do, but are not listed. */
    outcome->alerts_lost += p->alerts.discarded;
    for (uint16_t i = 0; i < p->alerts.cnt; i++) {
        const PacketAlert *pa = &p->alerts.alerts[i];
        bool deciding = pa->s == condemned;
        note_alert(outcome, pa->s, pa->action, deciding);
        told = told || deciding;
    }
    /* A rule with noalert drops without being in the list. */
    if (!told)
        note_alert(outcome, condemned, p->alerts.drop.action, true);
}

static void note_alert(struct mgs_outcome *outcome, const Signature *s, uint8_t action, bool deciding)
{
    struct mgs_alert *alert;

    if (s == NULL)
        return;
    if (outcome->alert_count < MGS_ALERTS_KEPT) {
        alert = &outcome->alerts[outcome->alert_count++];
    } else {
        outcome->alerts_lost++;
        if (!deciding)
            return;
        /* The one that explains the verdict is kept at the cost of another. */
        alert = &outcome->alerts[MGS_ALERTS_KEPT - 1];
    }
    alert->gid = s->gid;
    alert->sid = s->id;
    alert->rev = s->rev;
    alert->priority = s->prio;
    alert->drop = (action & (ACTION_DROP | ACTION_REJECT_ANY)) != 0;
    alert->deciding = deciding;
    alert->message_len = copy_text(alert->message, sizeof(alert->message), s->msg);
    alert->category_len = copy_text(alert->category, sizeof(alert->category), s->class_msg);
}

static uint16_t copy_text(char *to, size_t size, const char *from)
{
    size_t len = from != NULL ? strnlen(from, size) : 0;
    if (len > 0)
        memcpy(to, from, len);
    return (uint16_t)len;
}
