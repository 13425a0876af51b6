#ifndef GREET_H
#define GREET_H
/* The word to greet with; the string is static. */
const char *greet_word(void);
/* How many words there are: new in 1.1, and the reason for its soname. */
int greet_count(void);
#endif
