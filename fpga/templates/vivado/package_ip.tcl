# Packs {{name}} as an IP for the block design; its interfaces are inferred from their AMBA names. Not run by the generator's authors.
#   vivado -mode batch -source vivado/package_ip.tcl
set here [file dirname [file normalize [info script]]]
set out [file join $here ip]
create_project -force {{name}}_ip [file join $here build ip_project] -part {{vivado_part}}
add_files -norecurse [file join $here .. rtl {{name}}.v]
set_property top {{name}} [current_fileset]
ipx::package_project -root_dir $out -vendor sparseloom -library kernels -taxonomy /UserIP -import_files -force
set core [ipx::current_core]
set_property name {{name}} $core
set_property version {{version}} $core
set_property display_name "{{name}} ({{engine}})" $core
foreach bus {{{interfaces}}} {
    ipx::associate_bus_interfaces -busif $bus -clock aclk $core
}
ipx::infer_bus_interface irq xilinx.com:signal:interrupt_rtl:1.0 $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
