#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *greeting = "Hello, world!";

	if (argc == 3 && strcmp(argv[1], "--greeting") == 0)
		greeting = argv[2];
	else if (argc != 1) {
		fprintf(stderr, "usage: hello [--greeting TEXT]\n");
		return 2;
	}
	puts(greeting);
	return 0;
}
