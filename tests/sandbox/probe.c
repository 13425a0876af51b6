/* Looks at a session from inside, in ways that no usual command offers. Prints `name value` lines. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

static void show(const char *name, long result) {
    printf("%s %s\n", name, result >= 0 ? "ok" : strerrorname_np(errno));
}

#if defined(__x86_64__)
/* The 32-bit way into the kernel, from a 64-bit program. */
static long old_call(long number, long a, long b) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(0) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static long x32_call(long number, long a, long b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number | 0x40000000), "D"(a), "S"(b), "d"(0) : "memory", "rcx", "r11");
    return result;
}

static void show_raw(const char *name, long result) {
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        result = -1;
    }
    show(name, result);
}
#endif

static void show_socket(const char *name, int family, int type, int protocol) {
    int fd = socket(family, type, protocol);
    show(name, fd);
    if (fd >= 0)
        close(fd);
}

/* What can be done to PID 1, which counts what the session uses. */
static void watcher(void) {
    struct rlimit four = {4, 4}, own;
    show("prlimit", prlimit(1, RLIMIT_NOFILE, &four, NULL));
    show("setpriority", setpriority(PRIO_PROCESS, 1, 10));
    int before = getpriority(PRIO_PROCESS, 1);
    show("setpriority-user", setpriority(PRIO_USER, 0, 19));
    printf("nice-of-1 %s\n", getpriority(PRIO_PROCESS, 1) == before ? "same" : "other");
    /* Idle class. */
    show("ioprio_set", syscall(SYS_ioprio_set, 1, 1, 3 << 13));
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    show("sched_setaffinity", sched_setaffinity(1, sizeof one, &one));
    struct sched_param none = {0};
    show("sched_setscheduler", sched_setscheduler(1, SCHED_IDLE, &none));
    show("kill-stop", kill(1, SIGSTOP));
    void *page = show;
    int node = 0, status = 0;
    show("move_pages", syscall(SYS_move_pages, 1, 1L, &page, &node, &status, 0));
    show("own-setrlimit", getrlimit(RLIMIT_NOFILE, &own) || setrlimit(RLIMIT_NOFILE, &own) ? -1 : 0);
    show("own-prlimit", prlimit(0, RLIMIT_NOFILE, &own, NULL));
}

/* Which sockets and namespaces there are. */
static void sockets(void) {
    static const struct { const char *name; int family, type, protocol; } ways[] = {
        {"unix", AF_UNIX, SOCK_STREAM, 0},
        {"inet", AF_INET, SOCK_STREAM, 0},
        {"inet6", AF_INET6, SOCK_DGRAM, 0},
        {"route", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE},
        {"uevent", AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT},
        {"vsock", AF_VSOCK, SOCK_STREAM, 0},
        {"netfilter", AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER},
        {"generic", AF_NETLINK, SOCK_RAW, NETLINK_GENERIC},
        {"usersock", AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK},
        {"sock-diag", AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG},
        {"audit", AF_NETLINK, SOCK_RAW, NETLINK_AUDIT},
        {"xfrm", AF_NETLINK, SOCK_RAW, NETLINK_XFRM},
        {"packet", AF_PACKET, SOCK_RAW, 0},
        {"alg", AF_ALG, SOCK_SEQPACKET, 0},
        {"tipc", AF_TIPC, SOCK_STREAM, 0},
    };
    for (size_t at = 0; at < sizeof ways / sizeof *ways; at++)
        show_socket(ways[at].name, ways[at].family, ways[at].type, ways[at].protocol);
    int pair[2];
    show("pair-unix", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    show("pair-vsock", socketpair(AF_VSOCK, SOCK_STREAM, 0, pair));
    /* The kernel looks at the low half only. */
    show("vsock-high", syscall(SYS_socket, AF_VSOCK | (1L << 32), (long)SOCK_STREAM, 0L));
    show("netfilter-high", syscall(SYS_socket, AF_NETLINK | (1L << 32), (long)SOCK_RAW, NETLINK_NETFILTER | (1L << 32)));
    show("unshare-cgroup", unshare(CLONE_NEWCGROUP));
    show("unshare-user", unshare(CLONE_NEWUSER));
    fflush(stdout);
    long child = syscall(SYS_clone, CLONE_NEWCGROUP | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    show("clone-cgroup", child);
    child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    show("clone-user", child);
    show("clone3", syscall(SYS_clone3, NULL, 0));
    int cgroup = open("/proc/self/ns/cgroup", O_RDONLY);
    show("setns-cgroup", setns(cgroup, CLONE_NEWCGROUP));
#if defined(__x86_64__)
    show_raw("x32-vsock", x32_call(41, AF_VSOCK, SOCK_STREAM));
    show_raw("x32-unshare-cgroup", x32_call(272, CLONE_NEWCGROUP, 0));
    fflush(stdout);
    pid_t old = fork();
    if (old == 0) {
        /* Arguments where a 32-bit pointer reaches. */
        int *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        words[0] = AF_VSOCK;
        words[1] = SOCK_STREAM;
        show_raw("i386-getpid", old_call(20, 0, 0));
        show_raw("i386-socketcall", old_call(102, 1, (long)words));
        show_raw("i386-vsock", old_call(359, AF_VSOCK, SOCK_STREAM));
        show_raw("i386-unix", old_call(359, AF_UNIX, SOCK_STREAM));
        show_raw("i386-unshare-cgroup", old_call(310, CLONE_NEWCGROUP, 0));
        show_raw("i386-unshare-user", old_call(310, CLONE_NEWUSER, 0));
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(old, &status, 0);
#endif
}

static socklen_t abstract(struct sockaddr_un *address, const char *name) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path + 1, name, strlen(name));
    return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

/* Sends descriptors of `/held`, of `/`, and of nothing more, through a connected socket. */
static long pass_on(int socket) {
    int fds[2] = {open("/held", O_RDWR | O_CREAT, 0666), open("/", O_RDONLY | O_DIRECTORY)};
    char space[CMSG_SPACE(sizeof fds)] = {0};
    struct iovec byte = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    return sendmsg(socket, &message, 0);
}

/* The host listens on NAME (stream) and NAME-d (datagrams). */
static void reach(const char *name) {
    struct sockaddr_un address;
    char other[100];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    long connected = connect(fd, (struct sockaddr *)&address, abstract(&address, name));
    show("connect", connected);
    if (connected == 0)
        show("pass", pass_on(fd));
    snprintf(other, sizeof other, "%s-d", name);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    socklen_t length = abstract(&address, other);
    show("datagram", sendto(fd, "x", 1, 0, (struct sockaddr *)&address, length));
    show("datagram-connect", connect(fd, (struct sockaddr *)&address, length));
    /* PID 1 is outside of the session's programs. */
    show("signal", kill(1, 0));
    /* Its own. */
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    length = abstract(&address, "of-the-session");
    show("own-bind", bind(listener, (struct sockaddr *)&address, length));
    listen(listener, 1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int client = socket(AF_UNIX, SOCK_STREAM, 0);
        show("own-connect", connect(client, (struct sockaddr *)&address, length));
        show("own-pass", pass_on(client));
        show("own-signal", kill(getppid(), 0));
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
}

/* Somebody outside connects to NAME, an abstract one or a path, and is given descriptors. Ends when that one hangs up. */
static void serve(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (*name == '/')
        strncpy(address.sun_path, name, sizeof address.sun_path - 1);
    else
        length = abstract(&address, name);
    show("bind", bind(fd, (struct sockaddr *)&address, length));
    listen(fd, 1);
    show("ready", 0);
    int accomplice = accept(fd, NULL, NULL);
    char byte;
    show("pass", pass_on(accomplice));
    while (read(accomplice, &byte, 1) > 0)
        ;
}

/* What the standard descriptors are, and what more can be done through them than reading and writing. Answers in the file OUT. */
static void descriptors(const char *out) {
    FILE *to = fopen(out, "w");
    char path[40], link[300];
    for (int fd = 0; fd < 3; fd++) {
        struct stat status = {0};
        fstat(fd, &status);
        const char *kind = S_ISFIFO(status.st_mode) ? "pipe" : S_ISREG(status.st_mode) ? "file" : S_ISDIR(status.st_mode) ? "directory" : S_ISSOCK(status.st_mode) ? "socket" : "device";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        fprintf(to, "%d %s%s%s%s\n", fd, kind, isatty(fd) ? " terminal" : "", S_ISCHR(status.st_mode) ? " " : "", S_ISCHR(status.st_mode) ? link : "");
        if (S_ISREG(status.st_mode)) {
            int again = open(path, O_WRONLY);
            fprintf(to, "%d again %s\n", fd, again >= 0 && write(again, "hostile", 7) == 7 ? "written" : strerrorname_np(errno));
        }
    }
    int tty = open("/dev/tty", O_RDWR);
    fprintf(to, "dev-tty %s\n", tty >= 0 ? "ok" : strerrorname_np(errno));
    for (int fd = 0; fd < 3; fd++)
        if (ioctl(fd, TIOCSCTTY, 0) == 0)
            fprintf(to, "%d becomes ours\n", fd);
    for (int fd = 3; fd < 1024; fd++)
        if (fd != fileno(to) && fcntl(fd, F_GETFD) >= 0)
            fprintf(to, "%d open\n", fd);
    fclose(to);
    printf("\033[31mred\033[0m\033[6n\033]0;title\007 text\n");
}

static void calls(void) {
    int fds[2];
    if (pipe(fds))
        return;
    show("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    show("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    show("io_uring_setup", syscall(SYS_io_uring_setup, 1, 0));
    show("userfaultfd", syscall(SYS_userfaultfd, 1));
    show("bpf", syscall(SYS_bpf, 999, 0, 0));
    show("perf_event_open", syscall(SYS_perf_event_open, 0, 0, -1, -1, 0));
    show("lookup_dcookie", syscall(SYS_lookup_dcookie, 0, 0, 0));
    show("quotactl", syscall(SYS_quotactl, -1, 0, 0, 0));
    show("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
    show("tiocsti", syscall(SYS_ioctl, fds[0], 0x5412, "x"));
    show("tiocsti-high", syscall(SYS_ioctl, fds[0], 0x5412L | (1L << 32), "x"));
    show("tioclinux", syscall(SYS_ioctl, fds[0], 0x541c, "x"));
    show("tiocgwinsz", syscall(SYS_ioctl, fds[0], 0x5413, 0));
    show("getpid", syscall(SYS_getpid));
#if defined(__x86_64__)
    show_raw("x32-lookup_dcookie", x32_call(212, 0, 0));
    show_raw("x32-tiocsti", x32_call(514, fds[0], 0x5412));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        /* Without 32-bit emulation in the kernel this is a fault. */
        show_raw("i386-getpid", old_call(20, 0, 0));
        show_raw("i386-lookup_dcookie", old_call(253, 0, 0));
        show_raw("i386-keyctl", old_call(288, 0, 0));
        show_raw("i386-tiocsti", old_call(54, fds[0], 0x5412));
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("i386-none ok\n");
#endif
}

/* What Portage does for its network sandbox. */
static void network(void) {
    show("unshare-net", unshare(CLONE_NEWNET));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    show("lo-up", ioctl(fd, SIOCSIFFLAGS, &request));
}

static void capability(void) {
    /* CAP_NET_RAW, effective: vfs_cap_data, revision 2. */
    static const uint32_t value[5] = {0x02000001, 1u << 13, 0, 0, 0};
    int fd = open("/capable", O_CREAT | O_WRONLY, 0755);
    close(fd);
    show("setcap", setxattr("/capable", "security.capability", value, sizeof value, 0));
}

static void terminal(void) {
    struct winsize size = {0};
    printf("isatty %d%d%d\n", isatty(0), isatty(1), isatty(2));
    printf("ttyname %s\n", ttyname(0));
    ioctl(0, TIOCGWINSZ, &size);
    printf("size %dx%d\n", size.ws_row, size.ws_col);
    printf("leader %d foreground %d\n", getsid(0) == getpid(), tcgetpgrp(0) == getpgrp());
    int fd = open("/dev/tty", O_RDWR);
    show("dev-tty", fd);
    show("tiocsti", ioctl(0, 0x5412, "x"));
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "watcher"))
        watcher();
    else if (!strcmp(what, "calls"))
        calls();
    else if (!strcmp(what, "network"))
        network();
    else if (!strcmp(what, "capability"))
        capability();
    else if (!strcmp(what, "terminal"))
        terminal();
    else if (!strcmp(what, "sockets"))
        sockets();
    else if (!strcmp(what, "reach"))
        reach(words[2]);
    else if (!strcmp(what, "serve"))
        serve(words[2]);
    else if (!strcmp(what, "descriptors"))
        descriptors(words[2]);
    return 0;
}
