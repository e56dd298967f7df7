/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/disk.h - insula disk: what its commands share
 *
 *	cmd_disk.c           create, info, check, resize
 *	cmd_disk_convert.c   convert
 *	cmd_disk_snapshot.c  snapshot create, list, apply, delete
 *	disk_foreign.c       formats that qemu-img converts
 */
#pragma once

#include "block/disk.h"
#include "cli/cli.h"
#include "image/progress.h"

#include <jansson.h>

struct disk_config {
	bool json, force, repair, shrink, compress;
	char *format, *from, *backing, *backing_format;
	char *pool, *copy; /* of create */
	struct qcow2_options image;
};

void disk_init(void *config);
void disk_fini(void *config);
int disk_set_json(void *config, const char *value, struct err *e);
int disk_set_force(void *config, const char *value, struct err *e);
int disk_set_format(void *config, const char *value, struct err *e);
int disk_set_cluster_size(void *config, const char *value, struct err *e);
int disk_set_compression(void *config, const char *value, struct err *e);

#define DISK_JSON_OPTION                                                                           \
	{                                                                                          \
		"json", NULL, NULL, "print JSON", disk_set_json                                    \
	}
#define DISK_FORMAT_OPTION                                                                         \
	{                                                                                          \
		"format", "raw|qcow2", "raw qcow2",                                                \
		    "the file's format (default: qcow2 if its name ends in .qcow2, else raw)",     \
		    disk_set_format                                                                \
	}
#define DISK_CLUSTER_OPTION                                                                        \
	{                                                                                          \
		"cluster-size", "SIZE", NULL, "qcow2: 512 to 2M (default 64K)",                    \
		    disk_set_cluster_size                                                          \
	}
#define DISK_COMPRESSION_OPTION                                                                    \
	{                                                                                          \
		"compression", "zlib|zstd", "zlib zstd",                                           \
		    "qcow2: how compressed clusters are (default zlib)", disk_set_compression      \
	}

/* Prints and frees. */
void disk_print_json(json_t *o);
int disk_need(const char *cmd, int argc, int n, const char *words);
/* As a person writes it: "1.5 GiB". */
const char *disk_size_text(uint64_t bytes, char buf[32]);

/* --- disk_foreign.c --- */

/* Formats that only qemu-img knows: vmdk, vdi, vhdx. */
bool disk_is_foreign(const char *format);
/* The format that a name says (.vmdk, .vdi, .vhdx, .qcow2), "raw" for others. */
const char *disk_guess(const char *path);
/* From or to one of them. */
must_check int disk_convert_foreign(const struct disk_copy *c, struct progress *p, struct err *e);
