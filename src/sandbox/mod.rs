//! Namespaces of our own: the plan, id maps, the helper process, PID 1 and the terminal.
