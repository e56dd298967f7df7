/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_config.h - what a person says about a machine: `insula run`, `create`, the API
 *
 * It names an image, or kernel, or firmware, and what is plugged in; not where its disk lies or its
 * sockets are (struct machine_place).  Both together make the description that insula-vmm reads
 * (model/vm_desc.h).  The JSON form is docs/daemon.md's; machine_config_fields is its schema.
 */
#pragma once

#include "base/err.h"
#include "model/machine_container.h"
#include "model/vm_desc.h"

#include <jansson.h>

#define MACHINE_DEFAULT_MEMORY (UINT64_C(1) << 30)
#define MACHINE_MIN_MEMORY     (UINT64_C(32) << 20) /* less boots nothing */
#define MACHINE_MAX_DEVS       VM_DESC_MAX_DEVS     /* disks: one less, the image's own */

struct machine_disk {
	char *path;         /* NULL: a CD-ROM drive without a disc */
	const char *format; /* "auto", "raw" or "qcow2"; not owned */
	const char *bus;    /* "virtio", "ahci", "nvme" or "scsi"; not owned */
	bool read_only, cdrom;
	char *serial; /* NULL = by its number */
	struct vm_rate rate[2];
};

/* One more network card, in a network of its own. */
struct machine_nic {
	uint8_t mac[6];
	const char *model; /* "virtio" or "e1000"; not owned */
	struct vm_rate rate[2];
};

struct machine_publish {
	char *address;
	unsigned int host, guest;
	bool udp;
};

struct machine_share {
	char *host, *guest;
	bool read_only;
};

struct machine_limits {
	int64_t cpu_percent; /* of one CPU's time, 0 = no cap */
	int64_t cpu_weight;  /* 1 to 10000 beside other machines, 0 = 100 */
	uint64_t memory;     /* bytes of the host, 0 = no limit */
};

struct machine_config {
	char *image, *engine, *board, *kernel, *initrd, *append;
	char *firmware;     /* "bios", "uefi", a file; NULL = a kernel is loaded directly */
	char *boot;         /* order, "cdrom,disk,menu"; NULL = the default */
	char *vnc;          /* "unix:PATH" or "ADDRESS:PORT" */
	char *vnc_password; /* NULL = none */
	char *vnc_origin;   /* pages that may connect; NULL = none */
	const char *gpu;    /* "vga" or "virtio"; not owned */
	char *vnc_tls;      /* PEM file of certificate and key; NULL = none */
	bool text_screen;   /* on the terminal: of `insula run` only */
	unsigned int cpus;
	uint64_t memory;
	const char *usb; /* "auto", "none", "tablet", "keyboard" or "both"; not owned */
	bool net;
	const char *net_model; /* "virtio" or "e1000"; not owned */
	struct vm_rate net_rate[2];
	struct vm_rate root_rate[2]; /* of the image's disk */
	struct machine_nic nics[MACHINE_MAX_DEVS - 1];
	size_t n_nics;
	struct machine_disk disks[MACHINE_MAX_DEVS];
	size_t n_disks;
	struct machine_publish publish[VM_DESC_MAX_PUBLISH];
	size_t n_publish;
	struct machine_share shares[MACHINE_MAX_DEVS];
	size_t n_shares;
	struct machine_limits limits;
	struct machine_container container;
};

/* The schema, for the reader and for API documents. */
struct machine_field {
	const char *name;
	const char *type; /* of JSON schema: "string", "integer", "boolean", "array", "object" */
	const char *help;
};
extern const struct machine_field machine_config_fields[]; /* ends with a NULL name */

void machine_config_init(struct machine_config *c);
void machine_config_fini(struct machine_config *c);
/* Fills in @ret (initialised by this); on failure it is left finished. */
must_check int machine_config_parse(json_t *o, struct machine_config *ret, struct err *e);
/* The JSON form, without what is at its default; the caller's. */
json_t *machine_config_format(const struct machine_config *c);
/* What does not go together, in words of the JSON form. */
must_check int machine_config_check(const struct machine_config *c, struct err *e);

/* What insula-vmm calls disk @i: the serial number that the guest sees, too. */
char *machine_disk_serial(const struct machine_config *c, size_t i);
/* One of them as its description says it (model/vm_desc.h). */
json_t *machine_describe_disk(const struct machine_config *c, size_t i);
json_t *machine_describe_nic(const struct machine_nic *n);

/* Names are host names: letters, digits and inner '-', at most 63. */
must_check int machine_name_check(const char *name, struct err *e);

/* Where one run of a machine has its things. */
struct machine_place {
	const char *name;  /* NULL = nameless */
	const char *uuid;  /* NULL = none */
	const char *root;  /* disk, NULL = none */
	bool root_private; /* write to @root itself */
	const char *kernel, *initrd;
	const char *nvram; /* with firmware uefi; NULL: variables go with the machine */
	const char *tpm;   /* swtpm's control socket; NULL = no TPM */
	bool agent;        /* @initrd has it: vsock and the agent's command line are for it */
	bool restart;      /* `reboot` starts the guest again instead of ending the machine */
	bool verbose;
	const char *control, *vsock;       /* socket paths */
	const char *console, *console_log; /* socket and file; NULL: stdin and stdout */
};

/* The description for insula-vmm; NULL when text of it is not UTF-8. */
json_t *machine_describe(const struct machine_config *c, const struct machine_place *p);
/* What the agent reads (docs/agent.md), as text. */
char *machine_agent_config(const struct machine_config *c, const char *name);
