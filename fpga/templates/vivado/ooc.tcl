# Out-of-context synthesis, placement and routing of {{name}}. The generator's authors have not run this script: they have no Vivado.
#   vivado -mode batch -source vivado/ooc.tcl [-tclargs PART]
set part {{vivado_part}}
if {$argc > 0} { set part [lindex $argv 0] }
set here [file dirname [file normalize [info script]]]
set out [file join $here build]
file mkdir $out
read_verilog [file join $here .. rtl {{name}}.v]
read_xdc -mode out_of_context [file join $here clocks.xdc]
synth_design -top {{name}} -part $part -mode out_of_context
report_utilization -hierarchical -file [file join $out utilization_synth.rpt]
opt_design
place_design
phys_opt_design
route_design
report_utilization -hierarchical -file [file join $out utilization.rpt]
report_timing_summary -file [file join $out timing.rpt]
write_checkpoint -force [file join $out {{name}}.dcp]
puts "worst slack: [get_property SLACK [get_timing_paths -setup]] ns"
