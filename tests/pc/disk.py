# SPDX-License-Identifier: Apache-2.0
"""A Debian disk as an installer would leave it: GPT, GRUB for BIOS and UEFI, a root file system.

No loop device and no mount: the parts are made as files and put in place. GRUB's two boot sectors are
linked by hand, as grub-bios-setup does it (GRUB manual, "Images")."""
import os, shutil, struct, subprocess

MIB = 1 << 20
BIOS, ESP, ROOT = 1, 2, 18  # where partitions start, in MiB
ROOT_MIB = 1600
MODULES = ("part_gpt ext2 normal linux configfile serial terminal search search_label echo test "
           "boot halt reboot").split()
GRUB_CFG = """serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
menuentry Debian {
	search --no-floppy --label --set=root insula-root
	linux /vmlinuz root=LABEL=insula-root ro console=ttyS0 quiet
	initrd /initrd.img
}
"""


def run(*args, **more):
    subprocess.run([str(a) for a in args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   **more)


# X with a window manager and a terminal, started at boot; nothing draws by GL, which no card of ours has.
DESKTOP = ("udev,xserver-xorg-core,xserver-xorg-input-libinput,xinit,openbox,xterm,xfonts-base,"
           "x11-xserver-utils,x11-utils")
DESKTOP_FILES = {
    "etc/X11/xorg.conf": """Section "Device"
	Identifier "screen"
	Driver "modesetting"
	Option "AccelMethod" "none"
EndSection
""",
    "root/session": """#!/bin/sh
xset s off -dpms
xsetroot -solid '#336699'
exec openbox --startup "xterm -geometry 80x24+40+60 -fn fixed -bg white -fg black -T terminal"
""",
    "etc/systemd/system/desktop.service": """[Unit]
After=systemd-udev-settle.service
Wants=systemd-udev-settle.service
[Service]
ExecStart=/usr/bin/xinit /root/session -- :0 vt7 -nolisten tcp
StandardOutput=append:/var/log/desktop
StandardError=append:/var/log/desktop
[Install]
WantedBy=multi-user.target
""",
}


def put_desktop(tree):
    for name, text in DESKTOP_FILES.items():
        os.makedirs(os.path.dirname(f"{tree}/{name}"), exist_ok=True)
        open(f"{tree}/{name}", "w").write(text)
    os.chmod(f"{tree}/root/session", 0o755)
    os.symlink("/etc/systemd/system/desktop.service",
               f"{tree}/etc/systemd/system/multi-user.target.wants/desktop.service")


def make_root(path, work, desktop):
    tree = os.path.join(work, "tree")
    run("mmdebstrap", "--variant=minbase",
        "--include=systemd-sysv,linux-image-amd64,zstd" + ("," + DESKTOP if desktop else ""),
        "--customize-hook=chroot $1 passwd -d root", "--customize-hook=echo insula-pc > $1/etc/hostname",
        "--customize-hook=echo 'LABEL=insula-root / ext4 errors=remount-ro 0 1' > $1/etc/fstab",
        "bookworm", tree)
    if desktop:
        put_desktop(tree)
    run("mke2fs", "-q", "-t", "ext4", "-L", "insula-root", "-d", tree, path, f"{ROOT_MIB}M")
    shutil.rmtree(tree)


def put(disk, path, at):
    with open(path, "rb") as f:
        disk.seek(at)
        shutil.copyfileobj(f, disk, MIB)


def put_bios(disk, work):
    """boot.img in the MBR says where core.img's first sector is, which says where its rest is."""
    early, core = os.path.join(work, "early.cfg"), os.path.join(work, "core.img")
    open(early, "w").write("search --no-floppy --label --set=root insula-root\n"
                           "configfile ($root)/boot/grub.cfg\n")
    run("grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-c", early, "-o", core, "biosdisk", *MODULES)
    boot = bytearray(open("/usr/lib/grub/i386-pc/boot.img", "rb").read())
    data = bytearray(open(core, "rb").read())
    first = BIOS * MIB // 512
    boot[0x5c:0x64] = struct.pack("<Q", first)
    boot[0x66:0x68] = b"\x90\x90"  # boot from the drive the BIOS says
    data[0x1f4:0x1fc] = struct.pack("<Q", first + 1)
    disk.seek(0)
    disk.write(boot[:440])
    disk.seek(BIOS * MIB)
    disk.write(data)


def put_uefi(disk, work):
    cfg, efi, esp = (os.path.join(work, n) for n in ("efi.cfg", "bootx64.efi", "esp.img"))
    open(cfg, "w").write("search --no-floppy --label --set=root insula-root\n"
                         "configfile ($root)/boot/grub.cfg\n")
    run("grub-mkimage", "-O", "x86_64-efi", "-p", "/boot/grub", "-c", cfg, "-o", efi, "fat", *MODULES)
    with open(esp, "wb") as f:
        f.truncate((ROOT - ESP) * MIB)
    run("mformat", "-i", esp, "::")
    run("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", esp, efi, "::/EFI/BOOT/BOOTX64.EFI")
    put(disk, esp, ESP * MIB)


def make(path, desktop=False):
    work = path + ".work"
    os.makedirs(work, exist_ok=True)
    root = os.path.join(work, "root.img")
    make_root(root, work, desktop)
    cfg = os.path.join(work, "grub.cfg")
    open(cfg, "w").write(GRUB_CFG)
    run("debugfs", "-w", "-R", f"write {cfg} /boot/grub.cfg", root)
    part = path + ".part"
    with open(part, "wb") as f:
        f.truncate((ROOT + ROOT_MIB + 1) * MIB)
    table = (f"label: gpt\nstart={BIOS}MiB, size={ESP - BIOS}MiB, type=21686148-6449-6E6F-744E-656564454649\n"
             f"start={ESP}MiB, size={ROOT - ESP}MiB, type=U\nstart={ROOT}MiB, size={ROOT_MIB}MiB, type=L\n")
    run("sfdisk", part, input=table.encode())
    with open(part, "r+b") as disk:
        put_bios(disk, work)
        put_uefi(disk, work)
        put(disk, root, ROOT * MIB)
    shutil.rmtree(work)
    os.rename(part, path)
