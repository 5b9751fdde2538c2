/* Preloaded into a process: what it writes below a folder is counted, and the n-th call fails.

   libfiu and strace can make calls of the C library fail, but not those on files below a folder alone.
   FAULT_BELOW: the folder, an absolute path; nothing is done without it. FAULT_LOG: a file that gets a line for each
   call. FAULT_NTH: which call fails, 0 for none. FAULT_ERROR: with which errno. FAULT_ON: all later ones fail too, but
   for removals. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int calls;

static int fails(const char *name, int folder, const char *path) {
    const char *below = getenv("FAULT_BELOW");
    if (!below || !*below) return 0;
    char full[2 * PATH_MAX] = "", link[64];
    size_t used = 0;
    if (!path || path[0] != '/') { /* beside an open folder, the working directory, or an open file itself */
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, full, PATH_MAX);
        if (length < 0) return 0;
        used = length;
        full[used] = 0;
    }
    if (path) snprintf(full + used, sizeof full - used, used ? "/%s" : "%s", path);
    size_t length = strlen(below);
    if (strncmp(full, below, length) || (full[length] && full[length] != '/')) return 0;
    int n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST), chosen = atoi(getenv("FAULT_NTH") ?: "0");
    int now = chosen && (n == chosen || (n > chosen && getenv("FAULT_ON") && !strstr("unlink rmdir", name)));
    const char *log = getenv("FAULT_LOG");
    if (log) {
        char line[3 * PATH_MAX];
        int size = snprintf(line, sizeof line, "%d\t%s\t%s\t%d\n", n, name, full + length + (full[length] == '/'), now);
        int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        syscall(SYS_write, file, line, size);
        syscall(SYS_close, file);
    }
    if (now) errno = atoi(getenv("FAULT_ERROR") ?: "5");
    return now;
}

#define CALL(type, name, kind, declared, passed, folder, path) \
    type name declared { \
        static type (*real) declared; \
        if (!real) real = (type (*) declared)dlsym(RTLD_NEXT, #name); \
        return fails(kind, folder, path) ? -1 : real passed; \
    }

CALL(ssize_t, write, "write", (int file, const void *data, size_t size), (file, data, size), file, NULL)
CALL(ssize_t, pwrite, "write", (int file, const void *data, size_t size, off_t at), (file, data, size, at), file, NULL)
CALL(ssize_t, pwrite64, "write", (int file, const void *data, size_t size, off64_t at), (file, data, size, at), file, NULL)
CALL(ssize_t, writev, "write", (int file, const struct iovec *parts, int count), (file, parts, count), file, NULL)
CALL(int, ftruncate, "write", (int file, off_t size), (file, size), file, NULL)
CALL(int, ftruncate64, "write", (int file, off64_t size), (file, size), file, NULL)
CALL(int, fsync, "fsync", (int file), (file), file, NULL)
CALL(int, fdatasync, "fsync", (int file), (file), file, NULL)
CALL(int, rename, "rename", (const char *from, const char *to), (from, to), AT_FDCWD, to)
CALL(int, renameat, "rename", (int a, const char *from, int b, const char *to), (a, from, b, to), b, to)
CALL(int, mkdir, "mkdir", (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
CALL(int, mkdirat, "mkdir", (int folder, const char *path, mode_t mode), (folder, path, mode), folder, path)
CALL(int, link, "link", (const char *from, const char *to), (from, to), AT_FDCWD, to)
CALL(int, symlink, "link", (const char *from, const char *to), (from, to), AT_FDCWD, to)
CALL(int, unlink, "unlink", (const char *path), (path), AT_FDCWD, path)
CALL(int, unlinkat, "unlink", (int folder, const char *path, int flags), (folder, path, flags), folder, path)
CALL(int, rmdir, "rmdir", (const char *path), (path), AT_FDCWD, path)

#define OPEN(name, declared, folder, real_name) \
    int name declared { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && fails("open", folder, path)) return -1; \
        return real_name(folder, path, flags, mode); \
    }

static int opened(int folder, const char *path, int flags, mode_t mode) {
    return syscall(SYS_openat, folder, path, flags, mode);
}

OPEN(open, (const char *path, int flags, ...), AT_FDCWD, opened)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, opened)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, opened)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder, opened)
