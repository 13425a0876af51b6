/* Prints one greeting: framed, coloured or as JSON, as it was built; `--flags` says how that was. */
#include <greet.h>
#include <stdio.h>
#include <string.h>

static void flags(void)
{
	printf("ascii=%d color=%d json=%d hardened=%d\n", ASCII, COLOR, JSON, HARDENED);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--flags") == 0) {
		flags();
		return 0;
	}
	if (JSON)
		printf("{\"greeting\": \"%s\"}\n", greet_word());
	else if (COLOR)
		printf("\033[32m%s\033[0m\n", greet_word());
	else
		printf("* %s *\n", greet_word());
	return 0;
}
