/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/machine_options.h - the options that say what a machine is: of `insula run` and `create`
 *
 * Their config begins with a struct run_config.
 */
#pragma once

#include "cli/run.h"

/* clang-format off */
#define RUN_MACHINE_OPTIONS                                                                        \
    {"engine", "ENGINE", "auto kvm soft jit interp",                                               \
     "what executes the guest: auto (default; KVM where it is fast, else the "                     \
     "software CPU), kvm, soft, or one tier of it: jit, interp",                                   \
     run_set_engine},                                                                              \
    {"machine", "BOARD", "q35 micro",                                                              \
     "the board: q35 (default) or micro",                                                          \
     run_set_machine},                                                                             \
    {"cpus", "N", NULL,                                                                            \
     "virtual CPUs, 1 to 64 (default 1)",                                                          \
     run_set_cpus},                                                                                \
    {"memory", "SIZE", NULL,                                                                       \
     "guest memory, such as 512M or 2G (default 1G; the host gives only what the "                 \
     "guest uses)",                                                                                \
     run_set_memory},                                                                              \
    {"disk", "FILE[,size=SIZE][,format=FORMAT][,bus=ahci|nvme][,readonly][,bytes=SIZE][,ops=N]", NULL, \
     "one more disk for the guest (/dev/vdb, /dev/vdc...), written to in place; "                  \
     "raw, or qcow2 if its name ends so; with size= a file that is not there is "                  \
     "made; on virtio unless bus= says else; bytes= and ops= limit a second's; "                   \
     "repeatable",                                                                                 \
     run_set_disk},                                                                                \
    {"cdrom", "FILE|none", NULL,                                                                   \
     "a CD-ROM drive with this disc, or without one; repeatable",                                  \
     run_set_cdrom},                                                                               \
    {"firmware", "bios|uefi|FILE", "bios uefi",                                                    \
     "start with firmware instead of a kernel: what a PC does; the default when "                  \
     "there are disks but neither IMAGE nor --kernel",                                             \
     run_set_firmware},                                                                            \
    {"boot", "ORDER", "cdrom disk network menu",                                                   \
     "what firmware tries, such as cdrom,disk,network (the default); menu lets you "               \
     "choose",                                                                                     \
     run_set_boot},                                                                                \
    {"display", "none|text|vnc[=ADDR]", "none text vnc",                                           \
     "the screen: none; its text on this terminal; or VNC at ADDRESS:PORT "                        \
     "(127.0.0.1:5900) or unix:PATH",                                                              \
     run_set_display},                                                                             \
    {"vnc-password", "FILE", NULL,                                                                 \
     "ask viewers for the password in the first line of FILE",                                     \
     run_set_vnc_password},                                                                        \
    {"vnc-tls", "FILE", NULL,                                                                      \
     "speak TLS with viewers and browsers; FILE has the certificate and its key "                  \
     "(PEM)",                                                                                      \
     run_set_vnc_tls},                                                                             \
    {"kernel", "FILE", NULL,                                                                       \
     "boot this Linux bzImage or PVH vmlinux; without IMAGE, the terminal is its "                 \
     "serial console",                                                                             \
     run_set_kernel},                                                                              \
    {"initrd", "FILE", NULL,                                                                       \
     "initial RAM disk for --kernel without IMAGE",                                                \
     run_set_initrd},                                                                              \
    {"append", "TEXT", NULL,                                                                       \
     "kernel command line, added to ours if there is an IMAGE",                                    \
     run_set_append},                                                                              \
    {"net", "user[,model=e1000]|none", "user user,model=e1000 none",                               \
     "network: user (default; outgoing connections, nothing to set up) or none; the "              \
     "card is virtio's, or an Intel 82540EM that every system knows",                              \
     run_set_net},                                                                                 \
    {"publish", "[ADDR:]HOST:GUEST[/udp]", NULL,                                                   \
     "pass a port of the host to the guest; ADDR is 127.0.0.1 if not given; "                      \
     "repeatable",                                                                                 \
     run_set_publish},                                                                             \
    {"share", "HOSTDIR:GUESTDIR[:ro]", NULL,                                                       \
     "show a directory of the host in the guest; repeatable",                                      \
     run_set_share}
/* clang-format on */
