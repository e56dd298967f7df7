/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/vm_desc.h - the description of one virtual machine, as `insula run` gives it to insula-vmm
 *
 * A JSON object (docs/vmm.md lists every key).  Parsing is strict: an unknown key, a wrong type or
 *a value out of range is an error that names the field and the value.  Absent keys get defaults.
 *
 *	struct vm_desc d = {0};
 *	r = vm_desc_parse(text, len, &d, &e);
 *	...
 *	vm_desc_fini(&d);
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#include <jansson.h>

#define VM_DESC_VERSION     1
#define VM_DESC_MAX_CPUS    64
#define VM_DESC_MAX_DEVS    8 /* of each kind: disks, nets, shares */
#define VM_DESC_MAX_PUBLISH 64
#define VM_DESC_MIN_MEMORY  (UINT64_C(8) << 20)
#define VM_DESC_MAX_MEMORY  (UINT64_C(512) << 30)
#define VM_DESC_MAX_TEXT    (1u << 20)
#define VM_DESC_MAX_APPEND  65536 /* the kernel has its own, lower limit: machine/boot_linux.c */

enum vm_machine { VM_MACHINE_Q35, VM_MACHINE_MICRO };
enum vm_engine {
	VM_ENGINE_AUTO,
	VM_ENGINE_KVM,
	VM_ENGINE_SOFT,
	VM_ENGINE_JIT,
	VM_ENGINE_INTERP,
	VM_ENGINE_LOCKSTEP
};
enum vm_chardev { VM_CHARDEV_NONE, VM_CHARDEV_STDIO, VM_CHARDEV_FILE, VM_CHARDEV_SOCKET };
enum vm_share_type { VM_SHARE_FS, VM_SHARE_9P };
enum vm_on_reboot { VM_REBOOT_RESTART, VM_REBOOT_EXIT };
enum vm_disk_bus { VM_DISK_VIRTIO, VM_DISK_AHCI, VM_DISK_NVME };
enum vm_net_model { VM_NET_VIRTIO, VM_NET_E1000 };
enum vm_boot { VM_BOOT_DISK, VM_BOOT_CDROM, VM_BOOT_NETWORK, VM_BOOT_KINDS };

/* A second's share and what may go at once; 0 = no limit, or a tenth of a second's. */
struct vm_rate {
	uint64_t rate, burst;
};

/* What a rate is of, by the word for it in JSON. */
enum { VM_RATE_BYTES, VM_RATE_OPS };
enum { VM_RATE_IN, VM_RATE_OUT }; /* to the guest, from it: bytes */
#define VM_RATE_MAX (INT64_C(1) << 50)
extern const char *const vm_disk_rate_words[2], *const vm_net_rate_words[2];

struct vm_disk {
	char *path;   /* NULL: a CD-ROM drive without a disc, or removed */
	char *format; /* "raw", "qcow2" or "auto": by the name (block/block.h) */
	enum vm_disk_bus bus;
	bool cdrom; /* read-only, on AHCI */
	bool read_only, overlay;
	char serial[21];
	struct vm_rate rate[2];
	unsigned int slot; /* PCI's, of one that came later; 0 = the next one in order */
	bool removed;      /* it went: its place in the order, and its slot, stay empty */
};

struct vm_publish {
	bool udp;
	char host_addr[46];
	uint16_t host_port, guest_port;
};

struct vm_net {
	bool has_mac; /* else derived from the machine's name */
	uint8_t mac[6];
	enum vm_net_model model;
	char *hostname; /* NULL = none */
	bool restrict_host;
	struct vm_publish *publish;
	size_t n_publish;
	struct vm_rate rate[2];
	unsigned int slot; /* as a disk's */
	bool removed;
};

struct vm_share {
	enum vm_share_type type;
	char *path, *tag;
	bool read_only;
};

struct vm_chardev_desc {
	enum vm_chardev type;
	char *path; /* file, socket */
	char *log;  /* of a socket: a file that keeps the end of what was written; or NULL */
};

struct vm_display {
	bool vga;       /* a screen is plugged in: always with firmware */
	bool text;      /* its text is shown on standard output, which is a terminal */
	char *vnc;      /* "unix:PATH" or "ADDRESS:PORT"; NULL = nobody looks */
	char *password; /* of at most eight bytes; NULL = none */
	char *tls;      /* PEM file of a certificate and its key; NULL = in the clear */
};

struct vm_desc {
	char *name;
	char *uuid; /* what the machine says of itself (SMBIOS); NULL = none */
	enum vm_machine machine;
	enum vm_engine engine;
	unsigned int cpus;
	uint64_t memory;                /* bytes */
	char *kernel, *initrd, *append; /* initrd may be NULL */
	/* Instead of a kernel: "bios", "uefi" or the path of an image; NULL = none.  @nvram holds
	 * the variables of UEFI; NULL: they are gone with the machine. */
	char *firmware, *nvram;
	enum vm_boot boot[VM_BOOT_KINDS]; /* what firmware tries, in this order */
	unsigned int n_boot;
	bool boot_menu; /* firmware offers a choice first */
	struct vm_display display;
	struct vm_disk disks[VM_DESC_MAX_DEVS];
	size_t n_disks;
	struct vm_net nets[VM_DESC_MAX_DEVS];
	size_t n_nets;
	struct vm_share shares[VM_DESC_MAX_DEVS];
	size_t n_shares;
	uint64_t vsock_cid; /* 0 = no vsock */
	char *vsock_socket;
	struct vm_chardev_desc serial, console;
	struct vm_chardev_desc firmware_log; /* port 402h: what firmware says to its makers */
	char *control;                       /* socket path; NULL = none */
	bool rng, balloon, sandbox;
	bool test_devices; /* isa-debug-exit, pc-testdev, fw_cfg: what kvm-unit-tests expect */
	enum vm_on_reboot on_reboot;
};

/* Fills in @ret, which must be zeroed; on failure it is left finished. */
must_check int vm_desc_parse(const char *text, size_t len, struct vm_desc *ret, struct err *e);
/* One more disk or network card, as the entry @i; @o is used up.  On failure the entry is empty. */
must_check int vm_desc_read_disk(json_t *o, struct vm_desc *d, size_t i, struct err *e);
must_check int vm_desc_read_net(json_t *o, struct vm_desc *d, size_t i, struct err *e);
/* {"WORD":N,"WORD_burst":N...}, as the value of "rate"; @o is used up. */
must_check int vm_desc_read_rate(json_t *o, const char *const words[2], struct vm_rate ret[2],
				 struct err *e);
/* NULL when there is no limit. */
json_t *vm_rate_format(const struct vm_rate rate[2], const char *const words[2]);
/* Appends the JSON form; parsing it gives an equal description. */
void vm_desc_format(const struct vm_desc *d, struct strbuf *out);
void vm_desc_fini(struct vm_desc *d);
void vm_disk_fini(struct vm_disk *k);
void vm_net_fini(struct vm_net *n);

/* "52:54:00:12:34:56"; read, it must be one card's address, not many's. */
bool vm_mac_parse(const char *s, uint8_t mac[6]);
void vm_mac_format(const uint8_t mac[6], char out[18]);
/* Of a card without one of its own: locally administered, the same from run to run, by the
 * machine's name. */
void vm_mac_derive(const char *name, size_t index, uint8_t mac[6]);
