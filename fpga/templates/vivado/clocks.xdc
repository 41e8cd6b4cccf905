# {{clock_mhz}} MHz: an assumption, not a result. The one clock of {{name}}; its reset is synchronous to it.
create_clock -name aclk -period {{clock_ns}} [get_ports aclk]
