default/linux/amd64/testbed
