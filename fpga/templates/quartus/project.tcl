# Compilation of {{name}} alone, its ports kept as virtual pins. The generator's authors have not run this script: they have no Quartus.
#   quartus_sh -t quartus/project.tcl
load_package flow
set here [file dirname [file normalize [info script]]]
file mkdir [file join $here build]
cd [file join $here build]
project_new {{name}} -overwrite
set_global_assignment -name FAMILY "{{quartus_family}}"
set_global_assignment -name DEVICE {{quartus_device}}
set_global_assignment -name TOP_LEVEL_ENTITY {{name}}
set_global_assignment -name VERILOG_FILE [file join $here .. rtl {{name}}.v]
set_global_assignment -name SDC_FILE [file join $here {{name}}.sdc]
foreach port {{{virtual_ports}}} {
    set_instance_assignment -name VIRTUAL_PIN ON -to $port
}
execute_flow -compile
project_close
