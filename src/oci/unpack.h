/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/unpack.h - layers: from a tar archive to a directory for overlayfs, and several directories
 * to one tree (image-spec layer.md; kernel Documentation/filesystems/overlayfs.rst)
 *
 * An unpacked layer has overlayfs' own signs for what goes away: a character device 0:0 for a name,
 * the attribute "opaque" for all that lower layers have in a directory.  Since device nodes of a
 * layer are left out - a container's /dev is the runtime's - nothing else in it is a character
 * device.  Where the file system takes neither (one that is an overlay itself), the archive's own
 * signs stay as empty files, which merge_layer and fuse-overlayfs know.
 *
 * Layers are hostile.  Every name is looked up below the root by openat2(RESOLVE_IN_ROOT), so that
 * "..", absolute names and symbolic links end inside; sizes and counts are bounded.
 */
#pragma once

#include "oci/digest.h"

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct unpack_limits {
	uint64_t bytes;   /* of the archive, uncompressed, and of any file in it */
	uint64_t entries; /* files, directories and links */
	/* An archive past @free_bytes may be at most @ratio times its compressed size. */
	uint64_t free_bytes, ratio;
};
#define UNPACK_LIMITS                                                                              \
	((struct unpack_limits){.bytes = UINT64_C(64) << 30,                                       \
				.entries = 4000000,                                                \
				.free_bytes = UINT64_C(1) << 30,                                   \
				.ratio = 200})

/* "trusted.overlay." for root of the first user namespace, else "user.overlay.".  Looks into /proc
 * at the first call. */
const char *unpack_xattr_prefix(void);

/* Unpacks the archive @blob (tar, also in gzip or zstd) into the empty directory @root.  @diff_id
 * gets the digest of the uncompressed archive.  After a failure @root has remains. */
must_check int unpack_layer(int blob, int root, const struct unpack_limits *limits,
			    struct digest_text *diff_id, struct err *e);

/* Copies an unpacked layer over what is in @to, as mounting it above would look. */
must_check int merge_layer(int from, int to, struct err *e);
