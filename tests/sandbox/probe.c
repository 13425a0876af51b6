/* Looks at a session from inside, in ways that no usual command offers. Prints `name value` lines. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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
    if (!strcmp(what, "calls"))
        calls();
    else if (!strcmp(what, "network"))
        network();
    else if (!strcmp(what, "capability"))
        capability();
    else if (!strcmp(what, "terminal"))
        terminal();
    return 0;
}
