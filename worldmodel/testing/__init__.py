"""Laws of cores, heads, environments and agents, for whoever adds one."""
