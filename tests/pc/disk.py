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


def make_root(path, work):
    tree = os.path.join(work, "tree")
    run("mmdebstrap", "--variant=minbase", "--include=systemd-sysv,linux-image-amd64,zstd",
        "--customize-hook=chroot $1 passwd -d root", "--customize-hook=echo insula-pc > $1/etc/hostname",
        "--customize-hook=echo 'LABEL=insula-root / ext4 errors=remount-ro 0 1' > $1/etc/fstab",
        "bookworm", tree)
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


def make(path):
    work = path + ".work"
    os.makedirs(work, exist_ok=True)
    root = os.path.join(work, "root.img")
    make_root(root, work)
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
