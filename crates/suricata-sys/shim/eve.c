/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What EVE records say besides what Suricata puts there, and the counters. */
#include "internal.h"
#include "output-json.h"
#include "output-stats.h"

MGS_IN_FRONT_OF(OutputJsonBuilderBuffer);

static uint64_t silent_lane;

static void add_fields(ThreadVars *tv, const Packet *p, Flow *f, SCJsonBuilder *jb, void *user);
static bool is_silent(const uint16_t vlan_id[VLAN_MAX_LAYERS]);
static TmEcode stats_init(ThreadVars *tv, const void *init, void **data);
static TmEcode stats_deinit(ThreadVars *tv, void *data);
static int stats_log(ThreadVars *tv, void *data, const StatsTable *table);

void mgs_set_silent_lane(uint64_t lane)
{
    silent_lane = lane;
}

int mgs_stats_hook(void)
{
    if (!SCEveRegisterCallback(add_fields, NULL))
        return MGS_FAILED;
    return OutputRegisterStatsLogger("meergate", stats_log, NULL, stats_init, stats_deinit) == 0 ? 0 : MGS_FAILED;
}

/* The engine's own check must not show up as if it were traffic. */
void __wrap_OutputJsonBuilderBuffer(ThreadVars *tv, const Packet *p, Flow *f, SCJsonBuilder *js,
        OutputJsonThreadCtx *ctx)
{
    if ((p != NULL && is_silent(p->vlan_id)) || (f != NULL && is_silent(f->vlan_id)))
        return;
    __real_OutputJsonBuilderBuffer(tv, p, f, js, ctx);
}

static bool is_silent(const uint16_t vlan_id[VLAN_MAX_LAYERS])
{
    uint64_t lane = (uint64_t)vlan_id[0] | (uint64_t)vlan_id[1] << 16 | (uint64_t)vlan_id[2] << 32;
    return silent_lane != 0 && lane == silent_lane;
}

static void add_fields(ThreadVars *tv, const Packet *p, Flow *f, SCJsonBuilder *jb, void *user)
{
    const struct mgs_worker *worker = mgs_current;

    /* Records about other flows (ended by their timeout) are written on this thread too. */
    if (worker == NULL || worker->outcome == NULL || f == NULL)
        return;
    if (worker->flow_id != 0 && FlowGetId(f) != worker->flow_id)
        return;
    for (unsigned i = 0; i < MGS_FIELDS; i++) {
        const struct mgs_field *field = &worker->fields[i];
        if (field->value_len > 0)
            SCJbSetString(jb, field->key, field->value);
    }
}

static TmEcode stats_init(ThreadVars *tv, const void *init, void **data)
{
    static int dummy;
    *data = &dummy;
    return TM_ECODE_OK;
}

static TmEcode stats_deinit(ThreadVars *tv, void *data)
{
    return TM_ECODE_OK;
}

static int stats_log(ThreadVars *tv, void *data, const StatsTable *table)
{
    for (uint32_t i = 0; i < table->nstats; i++) {
        if (table->stats[i].name != NULL)
            mgs_sink_counter(table->stats[i].name, (uint64_t)table->stats[i].value);
    }
    mgs_sink_counters_done();
    return 0;
}
