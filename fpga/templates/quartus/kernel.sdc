# {{clock_mhz}} MHz: an assumption, not a result.
create_clock -name aclk -period {{clock_ns}} [get_ports aclk]
derive_clock_uncertainty
