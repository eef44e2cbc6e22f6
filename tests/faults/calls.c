// SPDX-License-Identifier: GPL-3.0-or-later
// Preloaded into a node: makes chosen system calls fail, stall or come in pieces.
//
// What to do is in a file that the test maps too (tests/faults/calls.py has its other half): for each
// kind of call how many there were, and which of them to disturb, how. Nothing is counted before the
// test says so. Calls on files count only under the data directory, which FAULTS_DIRECTORY names.
//
// A file whose sync fails loses what was appended since the sync before, as the kernel may drop the
// pages that it could not write: so what was acknowledged too early is gone, and not in its cache.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN, READ, WRITE, SYNC, LOG, ACCEPT, SEND, RECEIVE, KINDS };
enum action { NOTHING, FAIL, STALL, CUT };

struct calls {
    uint64_t count;   // of this kind so far
    uint64_t first;   // the first to disturb, counted from 1; 0 for none
    uint64_t last;    // the last
    uint64_t action;
    uint64_t value;   // errno of FAIL, milliseconds of STALL
};

struct plan {
    uint64_t is_counting;
    struct calls calls[KINDS];
};

#define FILES_MAX 65536
static struct plan *plan;
static const char *directory;
static unsigned char is_data[FILES_MAX];
static off_t synced[FILES_MAX];   // bytes that the last sync through this descriptor covered

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_PLAN");
    directory = getenv("FAULTS_DIRECTORY");
    int fd = path && directory ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) plan = at;
}

// Whether to go on with the call; else errno is set and it fails. Shortens `bytes` for CUT.
static int passes(enum kind kind, size_t *bytes) {
    if (!plan || kind == KINDS || !plan->is_counting) return 1;
    struct calls *calls = &plan->calls[kind];
    uint64_t number = __atomic_add_fetch(&calls->count, 1, __ATOMIC_SEQ_CST);
    if (!calls->first || number < calls->first || number > calls->last) return 1;
    if (calls->action == FAIL) {
        errno = (int)calls->value;
        return 0;
    }
    if (calls->action == STALL) {
        struct timespec wait = {(time_t)(calls->value / 1000), (long)(calls->value % 1000) * 1000000};
        nanosleep(&wait, NULL);
    } else if (calls->action == CUT && bytes && *bytes > 1) {
        *bytes /= 2;
    }
    return 1;
}

// What kind a transfer on a descriptor is; KINDS for none that is of interest.
static enum kind kind_of(int fd, enum kind on_file, enum kind on_socket) {
    struct stat found;
    if (!plan) return KINDS;
    if (fd == STDERR_FILENO) return on_file == WRITE ? LOG : KINDS;
    int before = errno;
    int is_known = fstat(fd, &found) == 0;
    errno = before;
    if (!is_known) return KINDS;
    if (S_ISSOCK(found.st_mode)) return on_socket;
    return S_ISREG(found.st_mode) && fd < FILES_MAX && is_data[fd] ? on_file : KINDS;
}

// Bytes of a regular file under the data directory; -1 for anything else.
static off_t data_bytes(int fd) {
    struct stat found;
    int before = errno;
    int is_known = plan && fd >= 0 && fd < FILES_MAX && is_data[fd] && fstat(fd, &found) == 0;
    errno = before;
    return is_known && S_ISREG(found.st_mode) ? found.st_size : -1;
}

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < FILES_MAX) {
        is_data[fd] = directory && strncmp(path, directory, strlen(directory)) == 0;
        synced[fd] = data_bytes(fd);
    }
    return fd;
}

static enum kind kind_of_path(const char *path) {
    return directory && strncmp(path, directory, strlen(directory)) == 0 ? OPEN : KINDS;
}

#define OPENS(name)                                                  \
    int name(const char *path, int flags, ...) {                     \
        REAL(name);                                                  \
        va_list rest;                                                \
        va_start(rest, flags);                                       \
        mode_t mode = va_arg(rest, mode_t);                          \
        va_end(rest);                                                \
        if (!passes(kind_of_path(path), NULL)) return -1;            \
        return opened(real(path, flags, mode), path);                \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                               \
    int name(int at, const char *path, int flags, ...) {             \
        REAL(name);                                                  \
        va_list rest;                                                \
        va_start(rest, flags);                                       \
        mode_t mode = va_arg(rest, mode_t);                          \
        va_end(rest);                                                \
        if (!passes(kind_of_path(path), NULL)) return -1;            \
        return opened(real(at, path, flags, mode), path);            \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t read(int fd, void *into, size_t bytes) {
    REAL(read);
    return passes(kind_of(fd, READ, RECEIVE), &bytes) ? real(fd, into, bytes) : -1;
}

#define READS_AT(name)                                               \
    ssize_t name(int fd, void *into, size_t bytes, off_t at) {       \
        REAL(name);                                                  \
        return passes(kind_of(fd, READ, KINDS), &bytes) ? real(fd, into, bytes, at) : -1; \
    }
READS_AT(pread)
READS_AT(pread64)

ssize_t write(int fd, const void *from, size_t bytes) {
    REAL(write);
    return passes(kind_of(fd, WRITE, SEND), &bytes) ? real(fd, from, bytes) : -1;
}

#define WRITES_AT(name)                                              \
    ssize_t name(int fd, const void *from, size_t bytes, off_t at) { \
        REAL(name);                                                  \
        return passes(kind_of(fd, WRITE, KINDS), &bytes) ? real(fd, from, bytes, at) : -1; \
    }
WRITES_AT(pwrite)
WRITES_AT(pwrite64)

// The first part alone where it is cut: shorter than asked for, as a kernel may be.
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    size_t bytes = 2;
    if (!passes(kind_of(fd, WRITE, SEND), &bytes)) return -1;
    return real(fd, parts, bytes == 1 && count > 1 ? 1 : count);
}

ssize_t send(int fd, const void *from, size_t bytes, int flags) {
    REAL(send);
    return passes(kind_of(fd, KINDS, SEND), &bytes) ? real(fd, from, bytes, flags) : -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    size_t bytes = 2;
    if (!passes(kind_of(fd, KINDS, SEND), &bytes)) return -1;
    struct msghdr first = *message;
    if (bytes == 1 && first.msg_iovlen > 1) first.msg_iovlen = 1;
    return real(fd, &first, flags);
}

ssize_t recv(int fd, void *into, size_t bytes, int flags) {
    REAL(recv);
    return passes(kind_of(fd, KINDS, RECEIVE), &bytes) ? real(fd, into, bytes, flags) : -1;
}

int accept(int fd, struct sockaddr *who, socklen_t *length) {
    REAL(accept);
    return passes(ACCEPT, NULL) ? real(fd, who, length) : -1;
}

int accept4(int fd, struct sockaddr *who, socklen_t *length, int flags) {
    REAL(accept4);
    return passes(ACCEPT, NULL) ? real(fd, who, length, flags) : -1;
}

static int sync_of(int fd, int (*real)(int)) {
    off_t bytes = data_bytes(fd);
    if (!passes(SYNC, NULL)) {
        int before = errno;
        if (bytes > synced[fd] && ftruncate(fd, synced[fd]) != 0) abort();
        errno = before;
        return -1;
    }
    int done = real(fd);
    if (done == 0 && bytes >= 0) synced[fd] = bytes;
    return done;
}

int fsync(int fd) {
    REAL(fsync);
    return sync_of(fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return sync_of(fd, real);
}
