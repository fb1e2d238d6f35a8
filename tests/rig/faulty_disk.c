/* Makes writing to some files fail as a broken or full disk does, while a test says so.
 *
 * Preloaded into a process. FAULTY_DISK_CONTROL names a file that is mapped by everybody: its first
 * word is what to do, its second counts what was refused. FAULTY_DISK_PATH is the beginning of the
 * paths that are affected. The system calls are made directly, so nothing has to be looked up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SOUND, SYNC_EIO, WRITE_EIO, WRITE_ENOSPC };

struct control {
    volatile uint32_t mode;
    uint32_t refused;
};

static struct control *control;
static const char *affected;

__attribute__((constructor)) static void start(void)
{
    const char *name = getenv("FAULTY_DISK_CONTROL");
    affected = getenv("FAULTY_DISK_PATH");
    if (name == NULL || affected == NULL)
        return;
    int file = open(name, O_RDWR | O_CLOEXEC);
    if (file < 0)
        abort();
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED)
        abort();
    close(file);
    control = shared;
}

static int fails(int file, int is_sync)
{
    uint32_t mode = control == NULL ? SOUND : control->mode;
    if (mode == SOUND || is_sync != (mode == SYNC_EIO))
        return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, affected, strlen(affected)) != 0)
        return 0;
    __atomic_add_fetch(&control->refused, 1, __ATOMIC_RELAXED);
    errno = mode == WRITE_ENOSPC ? ENOSPC : EIO;
    return 1;
}

ssize_t write(int file, const void *bytes, size_t count)
{
    return fails(file, 0) ? -1 : syscall(SYS_write, file, bytes, count);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    return fails(file, 0) ? -1 : syscall(SYS_writev, file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset)
{
    return fails(file, 0) ? -1 : syscall(SYS_pwrite64, file, bytes, count, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
    return pwrite64(file, bytes, count, offset);
}

int fsync(int file)
{
    return fails(file, 1) ? -1 : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    return fails(file, 1) ? -1 : (int)syscall(SYS_fdatasync, file);
}
