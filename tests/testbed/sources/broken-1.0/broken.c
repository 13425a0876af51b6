#include <stdio.h>

int main(void)
{
	printf("%d\n", undeclared_on_purpose);
	return 0;
}
