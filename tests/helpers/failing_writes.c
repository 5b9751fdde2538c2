/* Preloaded into a process: before each call that writes below a folder, a server is asked what shall become of it.

   libfiu and strace can make calls of the C library fail, but not those on files below a folder alone, and not in a
   copy of the process. FAULT_BELOW: the folder, an absolute path. FAULT_DOOR: the server's socket, in the file system.
   FAULT_SAID: a file. The server gets a line "PID, name of the call, path below the folder", divided by tabs, and
   answers by a line with a number: 0, the call is made; n, it fails with errno n; -n, a copy of the process sees it
   fail with errno n and runs to its end, with FAULT_SAID as standard output and error, after which the server gets its
   exit status and answers again. The making of a folder that is there writes nothing, and is not asked about. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES 256 /* open files whose places are kept */

/* Whether this is the copy, in which the call fails; the other waits for its end, and sends its exit status. */
static int copied(int door) {
    off_t places[FILES];
    for (int file = 3; file < FILES; file++) places[file] = lseek(file, 0, SEEK_CUR);
    pid_t copy = fork();
    if (copy == 0) {
        int said = syscall(SYS_openat, AT_FDCWD, getenv("FAULT_SAID"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        dup2(said, 1);
        dup2(said, 2);
        syscall(SYS_close, said);
        return 1;
    }
    if (copy < 0) abort();
    int status = 0;
    while (waitpid(copy, &status, 0) < 0 && errno == EINTR) {}
    for (int file = 3; file < FILES; file++)
        if (places[file] >= 0) lseek(file, places[file], SEEK_SET);
    char line[32];
    int size = snprintf(line, sizeof line, "%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    send(door, line, size, MSG_NOSIGNAL);
    return 0;
}

static int fails(const char *name, int folder, const char *path) {
    const char *below = getenv("FAULT_BELOW"), *server = getenv("FAULT_DOOR");
    if (!below || !*below || !server) return 0;
    char full[2 * PATH_MAX] = "", link[64];
    size_t used = 0;
    if (!path || path[0] != '/') { /* beside an open folder, the working directory, or an open file itself */
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, full, PATH_MAX);
        if (length < 0) return 0;
        used = length;
        char *end = used > 10 ? full + used - 10 : NULL; /* a copy has removed it, and it was put back */
        if (end && !strncmp(end, " (deleted)", 10)) used -= 10;
        full[used] = 0;
    }
    if (path) snprintf(full + used, sizeof full - used, used ? "/%s" : "%s", path);
    size_t length = strlen(below);
    if (strncmp(full, below, length) || (full[length] && full[length] != '/')) return 0;
    if (!strcmp(name, "mkdir") && !access(full, F_OK)) return 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, server, sizeof address.sun_path - 1);
    int door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), answer = 0;
    if (connect(door, (struct sockaddr *)&address, sizeof address)) {
        syscall(SYS_close, door);
        return 0;
    }
    char line[3 * PATH_MAX];
    int size = snprintf(line, sizeof line, "%d\t%s\t%s\n", getpid(), name, full + length + (full[length] == '/'));
    send(door, line, size, MSG_NOSIGNAL);
    do {
        ssize_t got = recv(door, line, sizeof line - 1, 0);
        line[got > 0 ? got : 0] = 0;
        answer = atoi(line);
    } while (answer < 0 && !copied(door));
    syscall(SYS_close, door);
    errno = abs(answer);
    return answer != 0;
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
