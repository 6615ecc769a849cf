/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Short turns on the processor for the thread that loads rules.
 *
 * Loading thousands of them is seconds of work. A low priority makes a thread's share small, but not its turns: once on
 * a processor it stays there until the next tick of the clock, 4 ms later with most kernels, in which every transaction
 * of the worker beside it waits. So it yields each time that a short while has gone by. */
#include "internal.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define TURN_NANOSECONDS 250000

/* struct sched_attr of sched_setattr(2), which only newer C libraries know; some of the kernel's headers clash with
 * theirs. */
struct turn_attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

static void yield(int signal);
static void set_slice(uint64_t nanoseconds);

static _Thread_local timer_t timer;
static _Thread_local bool timer_runs;

/* Without a timer it is done in long turns. */
void mgs_turns_begin(void)
{
    struct sigaction action = { .sa_handler = yield, .sa_flags = SA_RESTART | SA_ONSTACK };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMAX };
    struct itimerspec turns = { .it_interval.tv_nsec = TURN_NANOSECONDS, .it_value.tv_nsec = TURN_NANOSECONDS };

    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    /* It stays: a signal may come after the timer has gone. */
    if (sigaction(SIGRTMAX, &action, NULL) != 0 || timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return;
    timer_runs = true;
    /* Yielding costs a thread the rest of its slice, so that should be no longer than its turn. */
    set_slice(TURN_NANOSECONDS);
    timer_settime(timer, 0, &turns, NULL);
}

void mgs_turns_end(void)
{
    if (!timer_runs)
        return;
    timer_runs = false;
    timer_delete(timer);
    set_slice(0);
}

static void yield(int signal)
{
    int kept = errno;

    (void)signal;
    sched_yield();
    errno = kept;
}

/* Since Linux 6.12; before, it changes nothing. 0 is the kernel's own. */
static void set_slice(uint64_t nanoseconds)
{
    struct turn_attributes attributes = { .size = sizeof(attributes), .policy = SCHED_OTHER, .runtime = nanoseconds };

    attributes.nice = getpriority(PRIO_PROCESS, 0);
    if (sched_getscheduler(0) == SCHED_OTHER)
        syscall(SYS_sched_setattr, 0, &attributes, 0);
}
