# SPDX-License-Identifier: Apache-2.0
"""Debian installed onto an empty disk, from the archive that this machine's apt uses: by Debian's
installer, and by debootstrap.

The installer's kernel and initrd are those of debian-installer-12-netboot-amd64, with the answers to its
questions added; grub-mkrescue makes a disc that BIOS and UEFI start. It loads most of itself from the
archive. Where an archive has packages but not the installer's components, debootstrap installs in a guest:
partitions, file systems, packages and both kinds of GRUB."""
import gzip, os, re, shutil, subprocess, urllib.error, urllib.parse, urllib.request

IMAGES = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
PASSWORD = "vicus"
GRUB_CFG = """set timeout=0
menuentry install {
	linux /boot/linux auto=true priority=critical console=ttyS0 --- console=ttyS0
	initrd /boot/initrd.gz
}
"""
# A minimal system: what is tested is the machine, not how many packages dpkg unpacks.
PRESEED = """d-i debian-installer/locale string C
d-i debian-installer/language string en
d-i debian-installer/country string DE
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/choose_interface select auto
d-i netcfg/get_hostname string insula-new
d-i netcfg/get_domain string unassigned-domain
d-i hw-detect/load_firmware boolean false
d-i mirror/country string manual
d-i mirror/protocol string {scheme}
d-i mirror/{scheme}/hostname string {host}
d-i mirror/{scheme}/directory string {directory}
d-i mirror/{scheme}/proxy string
d-i mirror/suite string bookworm
d-i passwd/make-user boolean false
d-i passwd/root-password password {password}
d-i passwd/root-password-again password {password}
d-i user-setup/allow-password-weak boolean true
d-i clock-setup/utc boolean true
d-i clock-setup/ntp boolean false
d-i time/zone string UTC
d-i partman-auto/disk string {disk}
d-i partman-auto/method string regular
d-i partman-auto/choose_recipe select atomic
d-i partman-partitioning/confirm_write_new_label boolean true
d-i partman-efi/non_efi_system boolean true
d-i partman/choose_partition select finish
d-i partman/confirm boolean true
d-i partman/confirm_nooverwrite boolean true
d-i base-installer/install-recommends boolean false
d-i base-installer/initramfs-tools/driver-policy select dep
d-i apt-setup/services-select multiselect
d-i apt-setup/disable-cdrom-entries boolean true
d-i pkgsel/run_tasksel boolean false
d-i pkgsel/include string
d-i pkgsel/upgrade select none
d-i pkgsel/update-policy select none
popularity-contest popularity-contest/participate boolean false
d-i grub-installer/only_debian boolean true
d-i grub-installer/bootdev string {disk}
d-i finish-install/reboot_in_progress note
d-i debian-installer/exit/poweroff boolean true
"""


def mirror():
    """The URL of Debian's archive in this machine's apt configuration; None: there is none."""
    out = subprocess.run(["apt-get", "indextargets", "--format", "$(RELEASE)|$(REPO_URI)",
                          "Created-By: Packages"], capture_output=True, check=True).stdout.decode()
    for line in out.splitlines():
        release, uri = line.split("|")
        if release in ("bookworm", "oldstable") and uri.startswith("http"):
            return urllib.parse.urlsplit(uri)
    return None


def lacks_components(url):
    """Of the installer's components, one that this archive lists and does not have; None: all are there that
    we looked for."""
    base = urllib.parse.urlunsplit(url).rstrip("/")
    index = f"{base}/dists/bookworm/main/debian-installer/binary-amd64/Packages.gz"
    try:
        text = gzip.decompress(urllib.request.urlopen(index).read()).decode()
    except urllib.error.HTTPError:
        return index
    for name in "apt-setup-udeb", "debootstrap-udeb", "partman-ext3", "grub-installer":
        path = re.search(rf"(?ms)^Package: {re.escape(name)}$.*?^Filename: (.*?)$", text)[1]
        try:
            urllib.request.urlopen(urllib.request.Request(f"{base}/{path}", method="HEAD"))
        except urllib.error.HTTPError:
            return path
    return None


IMAGE = "deb:bookworm+debootstrap+dosfstools+fdisk+wget"
SCRIPT = r"""set -e
disk=/dev/$(grep -l '^disk0' /sys/block/*/serial | cut -d/ -f4)
sfdisk -q $disk <<'T'
label: gpt
size=1MiB, type=21686148-6449-6E6F-744E-656564454649
size=64MiB, type=U
type=L
T
mkfs.vfat -n ESP ${disk}2 > /dev/null
mkfs.ext4 -q -L root ${disk}3
mount ${disk}3 /mnt
debootstrap --variant=minbase \
	--include=systemd-sysv,linux-image-amd64,grub-pc-bin,grub-efi-amd64-bin,grub2-common,zstd \
	bookworm /mnt MIRROR
mkdir -p /mnt/boot/efi
mount ${disk}2 /mnt/boot/efi
# What udev would do, so that GRUB names the root by its UUID.
mkdir -p /dev/disk/by-uuid
ln -sf ${disk}3 /dev/disk/by-uuid/$(blkid -s UUID -o value ${disk}3)
for d in dev proc sys; do mount --rbind /$d /mnt/$d; done
echo "LABEL=root / ext4 errors=remount-ro 0 1
LABEL=ESP /boot/efi vfat umask=0077 0 1" > /mnt/etc/fstab
echo insula-new > /mnt/etc/hostname
echo 'GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX=console=ttyS0
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"' > /mnt/etc/default/grub
chroot /mnt passwd -d root
chroot /mnt grub-install --target=i386-pc $disk
chroot /mnt grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram
chroot /mnt update-grub
umount -R /mnt
echo INSTALLED
"""


def make_disc(path, work, disk):
    """The installer's disc, which installs to @disk."""
    url, tree = mirror(), os.path.join(work, "disc")
    os.makedirs(f"{tree}/boot/grub")
    answers = PRESEED.format(scheme=url.scheme, host=url.netloc, directory=url.path.rstrip("/"),
                             password=PASSWORD, disk=disk)
    open(os.path.join(work, "preseed.cfg"), "w").write(answers)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=b"preseed.cfg\n", cwd=work,
                             capture_output=True, check=True).stdout
    shutil.copy(f"{IMAGES}/linux", f"{tree}/boot/linux")
    with open(f"{tree}/boot/initrd.gz", "wb") as f:
        f.write(open(f"{IMAGES}/initrd.gz", "rb").read())
        f.write(bytes(-f.tell() % 4) + archive)
    open(f"{tree}/boot/grub/grub.cfg", "w").write(GRUB_CFG)
    subprocess.run(["grub-mkrescue", "-o", path, tree], check=True, capture_output=True)
    shutil.rmtree(tree)
