#include "greet.h"

const char *greet_word(void)
{
#if UTF8
	return "Grüß Gott";
#else
	return "Hello";
#endif
}

int greet_count(void)
{
	return 1;
}
