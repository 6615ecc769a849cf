/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Lines of EVE and of other log files: what the disk does not take is lost whole, counted and told. */
#include "internal.h"
#include "util-logopenfile.h"

#include <sys/stat.h>
#include <unistd.h>

MGS_IN_FRONT_OF(SCConfLogOpenGeneric);

/* Seconds between two complaints. */
#define MGS_QUIET 60

static _Atomic uint64_t lost;
static _Atomic time_t quiet_until;

static int write_line(const char *line, int len, LogFileCtx *log);
static void reopen_if_due(LogFileCtx *log);
static bool put(int fd, const char *line, size_t len);
static void tell(const LogFileCtx *log, int error);

uint64_t mgs_lines_lost(void)
{
    return atomic_load(&lost);
}

/* With a buffer, or with a file for each thread, which only a YAML asks for, Suricata writes by itself. */
int __wrap_SCConfLogOpenGeneric(SCConfNode *conf, LogFileCtx *log, const char *name, int rotate)
{
    int result = __real_SCConfLogOpenGeneric(conf, log, name, rotate);

    if (result == 0 && log->is_regular && !log->threaded && log->buffer_size == 0)
        log->Write = write_line;
    return result;
}

/* In place of SCLogFileWrite, which leaves part of a line and counts for itself alone. */
static int write_line(const char *line, int len, LogFileCtx *log)
{
    SCMutexLock(&log->fp_mutex);
    reopen_if_due(log);
    if (log->fp == NULL) {
        /* It could not be reopened, which was told. */
        atomic_fetch_add(&lost, 1);
    } else if (!put(fileno(log->fp), line, (size_t)len)) {
        int error = errno;
        atomic_fetch_add(&lost, 1);
        tell(log, error);
    }
    SCMutexUnlock(&log->fp_mutex);
    return 0;
}

static void reopen_if_due(LogFileCtx *log)
{
    bool at_times = (log->flags & LOGFILE_ROTATE_INTERVAL) != 0;

    if (!log->rotation_flag && !(at_times && time(NULL) >= log->rotate_time))
        return;
    log->rotation_flag = 0;
    SCConfLogReopen(log);
    if (at_times)
        log->rotate_time = time(NULL) + (time_t)log->rotate_interval;
}

/* All of the line or nothing. Sets errno if it is nothing. */
static bool put(int fd, const char *line, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t written = write(fd, line + done, len - done);
        if (written > 0) {
            done += (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            int error = written == 0 ? ENOSPC : errno;
            struct stat file;
            /* Nobody else writes to it. Where it can't be cut, as a pipe, the reader has part of a line. */
            if (done > 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && ftruncate(fd, file.st_size - (off_t)done) != 0)
                error = errno;
            errno = error;
            return false;
        }
    }
    return true;
}

static void tell(const LogFileCtx *log, int error)
{
    time_t now = time(NULL);

    if (now < atomic_load(&quiet_until))
        return;
    atomic_store(&quiet_until, now + MGS_QUIET);
    SCLogError("%s cannot be written: %s; %" PRIu64 " lines are lost so far", log->filename, strerror(error),
            atomic_load(&lost));
}
