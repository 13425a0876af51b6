// SPDX-License-Identifier: GPL-2.0
#include <linux/init.h>
#include <linux/module.h>

static int __init greeting_init(void)
{
	pr_info("testbed: hello\n");
	return 0;
}
module_init(greeting_init);

static void __exit greeting_exit(void)
{
}
module_exit(greeting_exit);
MODULE_DESCRIPTION("Says hello");
MODULE_LICENSE("GPL");
