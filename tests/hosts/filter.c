/* Runs a command under a seccomp filter like that of docker's default profile for a container without CAP_SYS_ADMIN: no new namespaces, no
   mounts. `clone3` is ENOSYS there, since a filter cannot read its flags; the rest is EPERM.

     filter COMMAND ARGUMENT...

   A process that is no root of its user namespace gets `no_new_privs`, too: the kernel wants it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(call, error) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), ANSWER(SECCOMP_RET_ERRNO | (error))

#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		LOAD(nr),
		REFUSE(SYS_clone3, ENOSYS),
		REFUSE(SYS_unshare, EPERM),
		REFUSE(SYS_setns, EPERM),
		REFUSE(SYS_mount, EPERM),
		REFUSE(SYS_umount2, EPERM),
		REFUSE(SYS_pivot_root, EPERM),
		REFUSE(SYS_fsopen, EPERM),
		REFUSE(SYS_open_tree, EPERM),
		REFUSE(SYS_move_mount, EPERM),
		/* `clone` only with flags for namespaces, which are in the lower half of its first argument. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1),
		ANSWER(SECCOMP_RET_ERRNO | EPERM),
		ANSWER(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };

	if (argc < 2) {
		fprintf(stderr, "usage: filter COMMAND ARGUMENT...\n");
		return 2;
	}
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0 &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)) {
		perror("filter");
		return 2;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
