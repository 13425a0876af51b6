/* Says as whom it runs, so that set-id bits and capabilities can be seen to work. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");

	printf("uid=%d euid=%d gid=%d egid=%d", (int)getuid(), (int)geteuid(), (int)getgid(), (int)getegid());
	while (status && fgets(line, sizeof line, status))
		if (strncmp(line, "CapEff:\t", 8) == 0)
			printf(" effective=%s", line + 8);
	return 0;
}
