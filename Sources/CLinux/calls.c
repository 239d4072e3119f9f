// Calls that need GNU extensions or variadics; declared in clinux.h.
#define _GNU_SOURCE
#include "clinux.h"

#include <link.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>

extern char **environ;

int clinux_accept(int fd, struct sockaddr *address, socklen_t *length) {
    return (int)syscall(SYS_accept4, fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

ssize_t clinux_receive(int fd, void *bytes, size_t length) {
    return syscall(SYS_recvfrom, fd, bytes, length, 0, NULL, NULL);
}

ssize_t clinux_send(int fd, const void *bytes, size_t length, int more) {
    return syscall(
        SYS_sendto, fd, bytes, length, more ? MSG_NOSIGNAL | MSG_MORE : MSG_NOSIGNAL, NULL, 0);
}

int clinux_close(int fd) { return (int)syscall(SYS_close, fd); }

int clinux_epoll_wait_milliseconds(
    int epoll, struct epoll_event *events, int capacity, int milliseconds) {
    // epoll_wait itself is missing on newer architectures; without a mask this is the same.
    return (int)syscall(SYS_epoll_pwait, epoll, events, capacity, milliseconds, NULL, 0);
}

int clinux_epoll_ctl(int epoll, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    return epoll_ctl(epoll, op, fd, &event);
}

int clinux_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }

int clinux_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}

int clinux_fcntl_int(int fd, int command, int argument) { return fcntl(fd, command, argument); }

int clinux_lock(int fd, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

int clinux_name_thread(const char *name) {
    char cut[16] = {0};
    strncpy(cut, name, sizeof cut - 1);
    return pthread_setname_np(pthread_self(), cut);
}

int clinux_short_slices(uint64_t nanoseconds) {
    // As the kernel has it, for a C library without it: linux/sched/types.h.
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wanted = {.size = sizeof wanted};
    wanted.policy = SCHED_OTHER;
    wanted.nice = getpriority(PRIO_PROCESS, 0);  // On Linux of the calling thread.
    wanted.runtime = nanoseconds;
    return (int)syscall(SYS_sched_setattr, 0, &wanted, 0);
}

short clinux_spawn_session_flag(void) { return POSIX_SPAWN_SETSID; }

int clinux_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

ssize_t clinux_random(void *bytes, size_t length) { return getrandom(bytes, length, 0); }

int clinux_file_system(const char *path, int64_t *type, int64_t *available) {
    struct statfs value;
    if (statfs(path, &value) != 0) return -1;
    *type = value.f_type;
    *available = (int64_t)value.f_bavail * value.f_bsize;
    return 0;
}

char **clinux_environment(void) { return environ; }

void clinux_keep_memory_small(void) {
    mallopt(M_MMAP_THRESHOLD, 64 << 10);  // The edge's large blocks are beyond it.
    mallopt(M_ARENA_MAX, 2);
}

// Drops the pages of an object's segments that nobody can have written; they are read again from the
// file's cache when they are needed.
static int drop_clean_pages(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size;
    (void)unused;
    if (object->dlpi_addr == getauxval(AT_SYSINFO_EHDR)) return 0;  // The kernel's own, no file.
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int index = 0; index < object->dlpi_phnum; index++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[index];
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W)) continue;
        uintptr_t first = (object->dlpi_addr + segment->p_vaddr + page - 1) / page * page;
        uintptr_t end = (object->dlpi_addr + segment->p_vaddr + segment->p_filesz) / page * page;
        if (end > first) madvise((void *)first, end - first, MADV_DONTNEED);
    }
    return 0;
}

void clinux_return_memory(void) {
    malloc_trim(0);
    dl_iterate_phdr(drop_clean_pages, NULL);
}

ssize_t clinux_send_descriptor(int fd, const void *bytes, size_t length, int descriptor) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

ssize_t clinux_receive_descriptor(int fd, void *bytes, size_t length, int *descriptor) {
    *descriptor = -1;
    struct iovec part = {.iov_base = bytes, .iov_len = length};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) return count;
    // Room for one: the kernel closes what a sender adds to it.
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(descriptor, CMSG_DATA(header), sizeof(int));
    if (message.msg_flags & MSG_TRUNC) {
        if (*descriptor >= 0) close(*descriptor);
        *descriptor = -1;
        errno = EMSGSIZE;
        return -1;
    }
    return count;
}

int clinux_peer_credentials(int fd, uid_t *user, pid_t *process) {
    struct ucred value;
    socklen_t length = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &value, &length) != 0) return -1;
    *user = value.uid;
    *process = value.pid;
    return 0;
}

int clinux_unacknowledged(int fd) {
    int count = 0;
    return ioctl(fd, SIOCOUTQ, &count) == 0 ? count : -1;
}

int clinux_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t microseconds) {
    struct timespec limit = {
        .tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    return epoll_pwait2(epoll, events, capacity, microseconds < 0 ? NULL : &limit, NULL);
}

int clinux_clone_file(int to, int from) { return ioctl(to, FICLONE, from); }
