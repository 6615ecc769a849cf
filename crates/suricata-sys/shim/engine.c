/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Starting, running and stopping the one engine of the process. */
#include "internal.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEVICE_NAME "meergate"
#define MODE_NAME "meergate"
/* A quarter of the processor time that a busy worker gets. */
#define RELOAD_NICE 5

extern SCInstance suricata;

LiveDevice *mgs_device;
int mgs_booting = 1;
atomic_bool mgs_lost_engine;

static int wants_inline;
static unsigned worker_count;
static struct sigaction signal_usr2;
static bool signals_kept;
static int arg_count;
static char **arg_values;

static _Thread_local jmp_buf *guard_exit;

static int begin(void);
static int load_yaml(void);
static int init(void);
static int post_init(void);
static int main_loop(void);
static int shut_down(void);
static int or_lost(int result);
static int or_signals_back(int result);
static int create_workers(void);
static int is_inline(void);

int mgs_begin(int argc, char **argv, int inline_mode, unsigned workers)
{
    arg_count = argc;
    arg_values = argv;
    wants_inline = inline_mode;
    worker_count = workers;
    return or_signals_back(mgs_guard(begin));
}

int mgs_load_yaml(void)
{
    return or_signals_back(mgs_guard(load_yaml));
}

const char *mgs_conf_get(const char *name)
{
    const char *value = NULL;
    return SCConfGet(name, &value) == 1 ? value : NULL;
}

int mgs_conf_force(const char *name, const char *value)
{
    return SCConfSetFinal(name, value) == 1 ? 0 : MGS_FAILED;
}

int mgs_conf_remove(const char *name)
{
    SCConfNode *node = SCConfGetNode(name);

    if (node == NULL)
        return 0;
    SCConfNodeRemove(node);
    return 1;
}

int mgs_init(void)
{
    int result;

    mgs_turns_begin();
    result = mgs_guard(init);
    mgs_turns_end();
    return or_signals_back(result);
}

int mgs_post_init(void)
{
    return or_lost(or_signals_back(mgs_guard(post_init)));
}

int mgs_main_loop(void)
{
    return or_lost(mgs_guard(main_loop));
}

int mgs_shutdown(void)
{
    return or_lost(mgs_guard(shut_down));
}

/* Suricata ignores SIGUSR2 from its beginning on, to take it for itself later; after a failure nobody else would undo
 * that. */
static int or_signals_back(int result)
{
    if (result != 0 && signals_kept)
        sigaction(SIGUSR2, &signal_usr2, NULL);
    return result;
}

/* Workers wait for flags that only this thread sets, and it may have left a lock behind: they are let go, and nobody
 * ends in order any more. */
static int or_lost(int result)
{
    if (result != 0) {
        /* It may have been in the middle of a reload. */
        mgs_turns_end();
        atomic_store(&mgs_lost_engine, true);
        EngineStop();
        mgs_workers_let_go();
    }
    return result;
}

void mgs_stop(void)
{
    EngineStop();
}

int mgs_stopping(void)
{
    return suricata_ctl_flags != 0;
}

int mgs_reload_start(void)
{
    return DetectEngineReloadStart() == 0 ? 0 : MGS_FAILED;
}

int mgs_reload_pending(void)
{
    return !DetectEngineReloadIsIdle();
}

void mgs_rotate_logs(void)
{
    OutputNotifyFileRotation();
}

const char *mgs_version(void)
{
    return PROG_VER;
}

const char *mgs_event_name(uint8_t event)
{
    for (size_t i = 0; DEvents[i].event_name != NULL; i++) {
        if (DEvents[i].code == event)
            return DEvents[i].event_name;
    }
    return "unknown event";
}

const char *mgs_drop_reason_name(uint8_t reason)
{
    return PacketDropReasonToString(reason);
}

const char *mgs_app_proto_name(uint16_t proto)
{
    return AppProtoToString(proto);
}

uint16_t mgs_app_proto_count(void)
{
    return g_alproto_max;
}

static int begin(void)
{
    /* Rust's handler, which is there to tell a stack overflow, takes a signal that was sent for a fault that will come
     * again: it swallows the first one. */
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    /* Suricata takes SIGUSR2 for itself; the program gets it back in post_init. */
    signals_kept = sigaction(SIGUSR2, NULL, &signal_usr2) == 0;
    SuricataPreInit(arg_values[0]);
    SCRunmodeSet(RUNMODE_LIB);
    if (SCFinalizeRunMode() != TM_ECODE_OK)
        return MGS_FAILED;
    return SCParseCommandLine(arg_count, arg_values) == TM_ECODE_OK ? 0 : MGS_FAILED;
}

static int load_yaml(void)
{
    return SCLoadYamlConfig() == TM_ECODE_OK ? 0 : MGS_FAILED;
}

static int init(void)
{
    /* git main has no lib runmode of its own any more, so none is relied on. */
    RunModeRegisterNewRunMode(RUNMODE_LIB, MODE_NAME, "streams fed by Meergate", create_workers, is_inline);
    if (SCConfSetFinal("runmode", MODE_NAME) != 1)
        return MGS_FAILED;
    if (LiveRegisterDevice(DEVICE_NAME) < 0)
        return MGS_FAILED;
    if (mgs_worker_hooks() != 0 || mgs_stats_hook() != 0)
        return MGS_FAILED;
    SuricataInit();
    mgs_device = LiveGetDevice(DEVICE_NAME);
    mgs_booting = 0;
    return mgs_device != NULL ? 0 : MGS_FAILED;
}

/* All workers are made here: a thread registered later would stay paused for ever. */
static int create_workers(void)
{
    TimeModeSetLive();
    for (unsigned i = 0; i < worker_count; i++) {
        ThreadVars *tv = SCRunModeLibCreateThreadVars((int)i + 1);
        if (tv == NULL || mgs_worker_create(i, tv) != 0)
            return -1;
    }
    return 0;
}

static int is_inline(void)
{
    if (!wants_inline)
        return 0;
    EngineModeSetIPS();
    return 1;
}

static int post_init(void)
{
    SuricataPostInit();
    sigaction(SIGUSR2, &signal_usr2, NULL);
    return 0;
}

static int main_loop(void)
{
    /* Of this thread alone. It loads the rules of a reload, and traffic comes first. */
    setpriority(PRIO_PROCESS, 0, RELOAD_NICE);
    SuricataMainLoop();
    return 0;
}

static int shut_down(void)
{
    SuricataShutdown();
    GlobalsDestroy();
    return 0;
}

/* On the thread of main_loop. */
MGS_IN_FRONT_OF(DetectEngineReload);
int __wrap_DetectEngineReload(const SCInstance *instance)
{
    int result;

    mgs_turns_begin();
    result = __real_DetectEngineReload(instance);
    mgs_turns_end();
    return result;
}

int mgs_guard(int (*call)(void))
{
    jmp_buf here;
    jmp_buf *outer = guard_exit;
    int result;

    if (setjmp(here) == 0) {
        guard_exit = &here;
        result = call();
    } else {
        result = MGS_EXITED;
    }
    guard_exit = outer;
    return result;
}

void mgs_give_up(int code)
{
    if (guard_exit != NULL)
        longjmp(*guard_exit, 1);
    /* A thread of Suricata's own, or a worker in the middle of a packet: nothing can be trusted after this, and the
     * handlers that exit() would run may themselves wait for this thread. */
    _exit(code != 0 ? code : 1);
}

/* Every call of exit() inside libsuricata comes here (linked with --wrap): bad settings become an error that the
 * program can report, not the end of the process. */
MGS_IN_FRONT_OF(exit);
void __wrap_exit(int code)
{
    mgs_give_up(code);
}
