// What Swift cannot import from Linux: epoll and a few calls behind macros or variadics, CRC32C
// with the processor's instruction, and the on-disk structs whose layout must never move.
#ifndef CLINUX_H
#define CLINUX_H


#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clinux_formats.h"

/// CRC32C (Castagnoli) of `length` bytes, continued from `crc`; no pre- or post-inversion.
uint32_t clinux_crc32c(uint32_t crc, const void *bytes, size_t length);
/// The same by table: what machines without SSE4.2 run, and what the tests compare with.
uint32_t clinux_crc32c_table(uint32_t crc, const void *bytes, size_t length);

// The calls of the click path go to the kernel by syscall(2). The C library's functions of the same names
// are cancellation points, which in a process with threads costs each call two atomic exchanges; no
// thread here is ever cancelled. All of them give -1 and errno.

/// `accept4` with close-on-exec and non-blocking.
int clinux_accept(int fd, struct sockaddr *address, socklen_t *length);
/// `recv` without flags.
ssize_t clinux_receive(int fd, void *bytes, size_t length);
/// `send` without SIGPIPE; `more` says that the end of the stream follows at once (MSG_MORE).
ssize_t clinux_send(int fd, const void *bytes, size_t length, int more);
/// `close`.
int clinux_close(int fd);
/// `epoll_wait`.
int clinux_epoll_wait_milliseconds(int epoll, struct epoll_event *events, int capacity, int milliseconds);

/// `epoll_ctl` with the 64-bit user data that Swift cannot set through the union.
int clinux_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t data);
static inline uint64_t clinux_epoll_data(const struct epoll_event *event) { return event->data.u64; }
static inline uint32_t clinux_epoll_events(const struct epoll_event *event) { return event->events; }
/// `open`, `openat` and `fcntl` are variadic, so Swift does not import them.
int clinux_open(const char *path, int flags, mode_t mode);
int clinux_openat(int directory, const char *path, int flags, mode_t mode);
int clinux_fcntl_int(int fd, int command, int argument);
/// Takes (or, with `type` F_UNLCK, gives back) an open-file-description lock on the whole file.
int clinux_lock(int fd, short type);
/// Bytes sent that the peer has not acknowledged (SIOCOUTQ), or -1; `ioctl` is variadic.
int clinux_unacknowledged(int fd);
/// `epoll_wait` with a limit in microseconds (epoll_pwait2).
int clinux_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t microseconds);
/// A name for the calling thread, cut to 15 bytes, as `top -H` and the benchmarks show it.
int clinux_name_thread(const char *name);
/// `getrandom` without flags.
ssize_t clinux_random(void *bytes, size_t length);
/// Has the calling thread run in slices of so many nanoseconds, 100,000...100,000,000, and so the sooner
/// after it has woken (sched_setattr(2), Linux 6.12).
int clinux_short_slices(uint64_t nanoseconds);
/// The flag of posix_spawnattr_setflags(3) by which the child leads a session of its own.
short clinux_spawn_session_flag(void);
/// `memfd_create` with close-on-exec.
int clinux_memory_file(const char *name);
/// Makes a file share the blocks of another (FICLONE); `ioctl` is variadic.
int clinux_clone_file(int to, int from);
/// The magic number of the file system at a path, and the bytes free to an unprivileged writer.
int clinux_file_system(const char *path, int64_t *type, int64_t *available);
/// Has large blocks go back to the system when freed, and few arenas; before any thread starts.
void clinux_keep_memory_small(void);
/// Gives the system back what the allocator holds and nobody uses, and the pages of code that only a
/// start needs.
void clinux_return_memory(void);
/// Sends one message and, when `descriptor` is not negative, a duplicate of it (SCM_RIGHTS).
ssize_t clinux_send_descriptor(int fd, const void *bytes, size_t length, int descriptor);
/// Receives one message and the descriptor that came with it (close-on-exec), or -1; a message that
/// does not fit is EMSGSIZE.
ssize_t clinux_receive_descriptor(int fd, void *bytes, size_t length, int *descriptor);
/// Who made the connection at the other end of a Unix socket (SO_PEERCRED).
int clinux_peer_credentials(int fd, uid_t *user, pid_t *process);
/// Asks the processor to fetch lines that are about to be written; a hint that touches nothing.
static inline void clinux_prefetch_write(const void *start, size_t bytes) {
    for (size_t offset = 0; offset < bytes; offset += 64)
        __builtin_prefetch((const char *)start + offset, 1, 3);
}
/// The process's environment, terminated by NULL.
char **clinux_environment(void);

#endif
