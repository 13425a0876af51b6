#include <stdio.h>
#include "units.h"

int main(void)
{
	double x = 0;
#include "calls.h"
	printf("%g\n", x);
	return 0;
}
