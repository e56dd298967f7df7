/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/scsi_priv.h - between the adapter's queues and the disk's commands
 */
#pragma once

#include "virtio/scsi.h"

#define SCSI_CDB       32u /* bytes, as configured at most */
#define SCSI_SENSE     96u
#define SCSI_DATA      512u /* of an answer that is not read from the disk */
#define SCSI_SENSE_LEN 18u  /* what we tell: the fixed format */

enum scsi_status { SCSI_GOOD = 0x00, SCSI_CHECK = 0x02 };

/* Sense key, additional code and qualifier (SPC-4, 4.5.6) in one. */
enum scsi_sense {
	SENSE_READ_ERROR = 0x031100,
	SENSE_WRITE_ERROR = 0x030c00,
	SENSE_BAD_OPCODE = 0x052000,
	SENSE_BAD_LBA = 0x052100,
	SENSE_BAD_FIELD = 0x052400,
	SENSE_BAD_LUN = 0x052500,
	SENSE_BAD_LIST = 0x052600, /* field in the parameter list */
	SENSE_READ_ONLY = 0x072700,
};

enum scsi_next {
	SCSI_DONE,  /* @data has @len bytes for the guest */
	SCSI_BLOCK, /* @req goes to the disk: op, flags, offset and len are filled in */
	SCSI_ERROR, /* @sense says why */
};

struct scsi_command {
	uint8_t cdb[SCSI_CDB];
	bool other_lun;
	const uint8_t *list; /* what came with the command, for UNMAP */
	size_t list_len;
	/* The answer. */
	uint8_t data[SCSI_DATA];
	uint32_t len;
	struct blk_req req;
	enum scsi_sense sense;
};

/* @serial of 20 bytes, padded with zeroes. */
enum scsi_next scsi_disk_command(const struct blk_info *info, const char *serial,
				 struct scsi_command *c);
void scsi_put_sense(enum scsi_sense sense, uint8_t out[SCSI_SENSE_LEN]);
