#ifndef GREET_H
#define GREET_H
/* The word to greet with; the string is static. */
const char *greet_word(void);
#endif
